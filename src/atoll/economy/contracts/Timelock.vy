# pragma version 0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title The only owner: what it does is announced and takes time
@license AGPL-3.0-only
@notice Calls are scheduled by the governor, visible to all, and carried out by anybody after the
        delay. It administers itself: its own delay and roles change by such calls only.
@dev    snekmate's timelock controller; nothing is added but the shape of the constructor.
"""

from snekmate.auth import access_control
from snekmate.governance import timelock_controller

initializes: access_control
initializes: timelock_controller[access_control := access_control]

exports: timelock_controller.__interface__


@deploy
def __init__(minimum_delay_s: uint256, governor: address):
    """
    @param minimum_delay_s Between scheduling and carrying out, seconds.
    @param governor Who may schedule and cancel.
    """
    assert governor != empty(address), "zero address"
    access_control.__init__()
    timelock_controller.__init__(minimum_delay_s, [governor], [empty(address)], empty(address))
