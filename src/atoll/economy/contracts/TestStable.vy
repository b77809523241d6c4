# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title A euro for embedded chains
@license AGPL-3.0-only
@notice Stands for an EUR stablecoin (6 decimals) where there is none: anybody may take some. It
        refuses to exist on a chain other than the one it is told at construction is embedded.
@dev    Real deployments are given the address of a real stablecoin instead.
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
)

# Of one call to the faucet, in 1e-6 EUR: a million euro.
FAUCET_MAX: public(constant(uint256)) = 1_000_000 * 10**6


@deploy
def __init__(embedded_chain_id: uint256):
    """
    @param embedded_chain_id The chain this is meant for; on another one it is not deployed.
    """
    assert chain.id == embedded_chain_id, "not the embedded chain"
    assert chain.id > 1_000, "a public chain"
    ownable.__init__()
    erc20.__init__("Atoll Test Euro", "tEUR", 6, "Atoll Test Euro", "1")
    erc20.is_minter[msg.sender] = False
    ownable._transfer_ownership(empty(address))


@external
def faucet(receiver: address, amount_micro: uint256):
    """
    @notice Make test euros, for anybody.
    @param amount_micro In 1e-6 EUR, at most `FAUCET_MAX`.
    """
    assert amount_micro <= FAUCET_MAX, "too much at once"
    erc20._mint(receiver, amount_micro)
