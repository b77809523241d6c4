# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title ATOLL, the token of bonds and delegation
@license AGPL-3.0-only
@notice A fixed supply: everything is minted by the constructor, and no function mints afterwards.
        ERC-20 with permit (EIP-2612) and burn. Nobody owns this contract.
@dev    The ERC-20 part is snekmate's module. Its owner and minter roles are never exported, and
        both are given up in the constructor.
"""

from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
from snekmate.tokens import erc20

implements: IERC20
implements: IERC20Detailed

initializes: ownable
initializes: erc20[ownable := ownable]

exports: (
    erc20.name,
    erc20.symbol,
    erc20.decimals,
    erc20.totalSupply,
    erc20.balanceOf,
    erc20.allowance,
    erc20.transfer,
    erc20.transferFrom,
    erc20.approve,
    erc20.permit,
    erc20.nonces,
    erc20.DOMAIN_SEPARATOR,
    erc20.eip712Domain,
    erc20.burn,
    erc20.burn_from,
)

HOLDERS_MAX: constant(uint256) = 64

# What the constructor minted, in 1e-18 ATOLL. `totalSupply` is this less what was burnt.
GENESIS_SUPPLY: public(immutable(uint256))


@deploy
def __init__(holders: DynArray[address, HOLDERS_MAX], amounts: DynArray[uint256, HOLDERS_MAX]):
    """
    @param holders Who gets the supply: vesting contracts and accounts of the genesis file.
    @param amounts What each gets, in 1e-18 ATOLL; all above zero.
    """
    assert len(holders) == len(amounts), "lengths"
    assert len(holders) > 0, "no holders"
    ownable.__init__()
    erc20.__init__("Atoll", "ATOLL", 18, "Atoll", "1")
    supply: uint256 = 0
    for i: uint256 in range(len(holders), bound=HOLDERS_MAX):
        assert holders[i] != empty(address), "zero address"
        assert amounts[i] > 0, "zero amount"
        erc20._mint(holders[i], amounts[i])
        supply += amounts[i]
    GENESIS_SUPPLY = supply
    erc20.is_minter[msg.sender] = False
    ownable._transfer_ownership(empty(address))
