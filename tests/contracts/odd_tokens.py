"""Tokens that do not behave, as tests of our contracts meet them."""

# Fees, false answers, and a call in the middle of a transfer. It is also an account: `act` lets
# it be a customer or a payee, so that a call it makes during a transfer is one it may make.
ODD = """
# pragma version 0.4.3

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
fee_bps: public(uint256)
answers_false: public(bool)
keeps: public(bool)
hook: address
hook_data: Bytes[1024]
hook_done: public(bool)
hook_accepted: public(bool)
hook_result: public(Bytes[64])

@external
def faucet(receiver: address, amount: uint256):
    self.balanceOf[receiver] += amount

@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True

@external
def behave(fee_bps: uint256, answers_false: bool, keeps: bool):
    self.fee_bps = fee_bps
    self.answers_false = answers_false
    self.keeps = keeps

@external
def set_hook(target: address, data: Bytes[1024]):
    self.hook = target
    self.hook_data = data
    self.hook_done = False
    self.hook_accepted = False

@external
def act(target: address, data: Bytes[1024]):
    raw_call(target, data)

@external
def approve_own(spender: address, amount: uint256):
    self.allowance[self][spender] = amount

@internal
def _move(giver: address, taker: address, amount: uint256) -> bool:
    if not self.keeps:
        self.balanceOf[giver] -= amount
        self.balanceOf[taker] += amount - amount * self.fee_bps // 10_000
    if self.hook != empty(address) and not self.hook_done:
        self.hook_done = True
        accepted: bool = False
        result: Bytes[64] = b""
        accepted, result = raw_call(
            self.hook, self.hook_data, max_outsize=64, revert_on_failure=False
        )
        self.hook_accepted = accepted
        self.hook_result = result
    return not self.answers_false

@external
def transfer(taker: address, amount: uint256) -> bool:
    return self._move(msg.sender, taker, amount)

@external
def transferFrom(giver: address, taker: address, amount: uint256) -> bool:
    self.allowance[giver][msg.sender] -= amount
    return self._move(giver, taker, amount)
"""

# Like some of the most used stablecoins: transfers return nothing.
SILENT = """
# pragma version 0.4.3

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])

@external
def faucet(receiver: address, amount: uint256):
    self.balanceOf[receiver] += amount

@external
def approve(spender: address, amount: uint256):
    self.allowance[msg.sender][spender] = amount

@external
def transfer(taker: address, amount: uint256):
    self.balanceOf[msg.sender] -= amount
    self.balanceOf[taker] += amount

@external
def transferFrom(giver: address, taker: address, amount: uint256):
    self.allowance[giver][msg.sender] -= amount
    self.balanceOf[giver] -= amount
    self.balanceOf[taker] += amount
"""
