"""The court: evidence a machine can check, each fault once, and the order of who gets what."""

import msgspec
import pytest

from atoll.economy.keccak import keccak_256
from atoll.economy.settlement.sumtree import Leaf, leaf_hash
from tests.contracts.gas import check_gas
from tests.contracts.settlement import (
    CHALLENGE_S,
    CONTENT,
    KIND_LEAF,
    KIND_ROOT,
    KIND_VERDICT,
    VERIFIERS,
    RawTree,
    World,
    account_bytes,
    leaf_tuple,
    make_world,
    node_id,
    propose,
    root_statement,
    sign,
    sign_all,
    tree_of,
    words,
)
from tests.contracts.world import (
    TOKEN,
    ZERO,
    account,
    deploy,
    new_chain,
    pass_time,
    refused,
    transaction,
)

Statement = tuple[int, bytes, int, bytes]
CULPRIT = "verifier 1"
OWN = 1_000 * TOKEN


@pytest.fixture(scope="module")
def world() -> World:
    return ready_world()


def ready_world() -> World:
    made = make_world()
    made.distributor.fund(10**9, sender=account("funder"))
    made.give_token("sponsor")
    for role in VERIFIERS:
        made.bond.bond_own(made.court.node_of(account(role)), OWN, sender=account("sponsor"))
    return made


@pytest.fixture
def node(world: World) -> bytes:
    return bonded_node(world)


def bonded_node(world: World) -> bytes:
    key = world.register("node", "provider", "payout")
    world.bond.bond_own(key, OWN, sender=account("sponsor"))
    return key


def tokens(world: World, role: str) -> int:
    return world.token.balanceOf(account(role))


def said(value: str, subject: str = "thing", kind: int = KIND_VERDICT, epoch: int = 1) -> Statement:
    return kind, keccak_256(subject.encode()), epoch, keccak_256(value.encode())


# Verifiers


def test_only_the_timelock_names_verifiers(world: World) -> None:
    court, key = world.court, account("new verifier")
    for role in ("attacker", "deployer", "guardian"):
        with refused("not the owner"):
            court.add_verifier(key, node_id("x"), sender=account(role))
        with refused("not the owner"):
            court.remove_verifier(account(CULPRIT), sender=account(role))
    for words_, arguments in (
        ("zero", (ZERO, node_id("x"))),
        ("zero", (key, bytes(32))),
        ("stands", (account(CULPRIT), court.node_of(account(CULPRIT)))),
    ):
        with refused(words_):
            court.add_verifier(*arguments, sender=world.owner)
    court.remove_verifier(account(CULPRIT), sender=world.owner)
    assert court.verifiers() == 2
    with refused("does not stand"):
        court.remove_verifier(account(CULPRIT), sender=world.owner)
    # A key answers for one node for ever: it cannot be moved away from what it signed.
    with refused("another node's"):
        court.add_verifier(account(CULPRIT), node_id("x"), sender=world.owner)
    court.add_verifier(account(CULPRIT), court.node_of(account(CULPRIT)), sender=world.owner)
    assert court.verifiers() == 3


def test_the_first_verifiers_stand_from_the_beginning(world: World) -> None:
    start = (world.parameters.address, account("repair"), account("insurance"))
    keys, nodes = [account("a"), account("b")], [node_id("a"), node_id("b")]
    court = deploy("SlashCourt", *start, keys, nodes)
    assert (court.verifiers(), court.quorum()) == (2, 2)
    assert court.standing(account("b"))
    assert court.node_of(account("b")) == node_id("b")
    for words_, who, whose in (
        ("lengths", keys, nodes[:1]),
        ("stands", keys[:1] * 2, nodes),
        ("zero", [ZERO], nodes[:1]),
        ("zero", keys[:1], [bytes(32)]),
    ):
        with refused(words_):
            deploy("SlashCourt", *start, who, whose)


def test_two_thirds_are_counted_upwards(world: World) -> None:
    court = world.court
    for role in VERIFIERS:
        court.remove_verifier(account(role), sender=world.owner)
    assert court.quorum() == 1
    assert not court.has_quorum(*said("a"), [])
    wanted = {1: 1, 2: 2, 3: 2, 4: 3, 5: 4, 6: 4, 7: 5}
    roles: tuple[str, ...] = ()
    for number, quorum in wanted.items():
        roles = (*roles, f"judge {number}")
        court.add_verifier(account(roles[-1]), node_id(roles[-1]), sender=world.owner)
        assert court.quorum() == quorum
        assert court.has_quorum(*said("a"), sign_all(world, roles[:quorum], said("a")))
        assert not court.has_quorum(*said("a"), sign_all(world, roles[: quorum - 1], said("a")))
    for number in range(8, 65):
        court.add_verifier(account(f"judge {number}"), node_id("x"), sender=world.owner)
    with refused("too many"):
        court.add_verifier(account("judge 65"), node_id("x"), sender=world.owner)


def test_signers_ascend_and_count_once(world: World) -> None:
    statement = said("a")
    two = sign_all(world, VERIFIERS[:2], statement)
    outsider = sign(world, "attacker", statement)
    for wrong in ([two[0]] * 2, two[::-1], [two[0], (27, 1, 1)], two[:1], [*two, outsider]):
        assert not world.court.has_quorum(*statement, wrong)
    # The other signature of the same key over the same thing is refused.
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    v, r, s = two[0]
    assert not world.court.has_quorum(*statement, [(55 - v, r, order - s), two[1]])
    assert world.court.has_quorum(*statement, two)


def test_digest_is_of_this_court_and_chain(world: World) -> None:
    other = deploy(
        "SlashCourt", world.parameters.address, account("repair"), account("insurance"), [], []
    )
    assert other.digest_of(*said("a")) != world.court.digest_of(*said("a"))
    digests = {
        world.court.digest_of(*one)
        for one in (
            said("a"),
            said("b"),
            said("a", subject="other"),
            said("a", kind=KIND_LEAF),
            said("a", epoch=2),
        )
    }
    assert len(digests) == 5


# Equivocation


def accuse(world: World, one: Statement, other: Statement, roles: tuple[str, str] = (CULPRIT,) * 2):
    signatures = [sign(world, role, said) for role, said in zip(roles, (one, other), strict=True)]
    world.court.accuse_equivocation(
        one, signatures[0], other, signatures[1], sender=account("reporter")
    )


def test_who_says_two_things_about_one_loses_its_bond(world: World) -> None:
    accuse(world, said("a"), said("b"))
    assert tokens(world, "reporter") == OWN // 10
    assert tokens(world, "insurance") == OWN * 9 // 10
    assert tokens(world, "repair") == 0
    assert world.bond.coverage(world.court.node_of(account(CULPRIT)))[0] == 0
    assert not world.court.standing(account(CULPRIT))
    assert world.court.verifiers() == 2
    # The same fault again, with more bond behind it: a third value changes nothing.
    world.bond.bond_own(world.court.node_of(account(CULPRIT)), OWN, sender=account("sponsor"))
    for again in ((said("a"), said("b")), (said("b"), said("a")), (said("a"), said("c"))):
        with refused("punished"):
            accuse(world, *again)
    # Another fault of a key that stands no more is still punished.
    accuse(world, said("a", epoch=2), said("b", epoch=2))
    assert tokens(world, "reporter") == 2 * (OWN // 10)


def test_what_is_no_equivocation(world: World) -> None:
    for words_, one, other, roles in (
        ("agree", said("a"), said("a"), (CULPRIT, CULPRIT)),
        ("one thing", said("a"), said("b", epoch=2), (CULPRIT, CULPRIT)),
        ("one thing", said("a"), said("b", subject="other"), (CULPRIT, CULPRIT)),
        ("one thing", said("a"), said("b", kind=KIND_ROOT), (CULPRIT, CULPRIT)),
        ("two signers", said("a"), said("b"), (CULPRIT, VERIFIERS[1])),
        ("not a verifier's", said("a"), said("b"), ("attacker", "attacker")),
    ):
        with refused(words_):
            accuse(world, one, other, roles)
    good = sign(world, CULPRIT, said("a"))
    with refused("signature"):
        world.court.accuse_equivocation(said("a"), (27, 0, 0), said("b"), (27, 0, 0))
    with refused("two signers"):
        world.court.accuse_equivocation(said("a"), good, said("b"), good)
    assert world.court.verifiers() == 3


# Roots


def test_who_signed_a_root_that_was_struck_down_is_punished(world: World) -> None:
    leaves = [Leaf(bytes(19) + bytes([place]), 10**6, 0) for place in (3, 2, 1)]
    tree = RawTree(leaves)
    propose(world, 1, tree)
    statement = root_statement(world, 1, 1, tree.root, CONTENT)
    signature = sign(world, CULPRIT, statement)

    def report() -> None:
        world.court.accuse_signed_fraud(statement, signature, sender=account("reporter"))

    with refused("not shown"):
        report()
    world.distributor.prove_disorder(tree.shown(0), tree.shown(1), sender=account("watcher"))
    for wrong in (
        root_statement(world, 2, 1, tree.root, CONTENT),
        root_statement(world, 1, 2, tree.root, CONTENT),
        root_statement(world, 1, 1, tree.root, bytes(32)),
    ):
        with refused("not shown"):
            world.court.accuse_signed_fraud(wrong, sign(world, CULPRIT, wrong))
    with refused("kind"):
        world.court.accuse_signed_fraud((KIND_LEAF, *statement[1:]), signature)
    with refused("not a verifier's"):
        world.court.accuse_signed_fraud(statement, sign(world, "attacker", statement))
    report()
    assert tokens(world, "reporter") == OWN // 10
    with refused("punished"):
        report()
    # Saying something else about the same attempt as well is the same fault.
    other = (*statement[:3], keccak_256(b"another"))
    with refused("punished"):
        accuse(world, statement, other)
    second = sign(world, VERIFIERS[1], statement)
    world.court.accuse_signed_fraud(statement, second, sender=account("reporter"))
    assert tokens(world, "reporter") == 2 * (OWN // 10)


def test_withheld_data_is_no_fraud_of_who_signed(world: World) -> None:
    tree = tree_of({account_bytes("provider"): (5, 0)})
    propose(world, 1, tree)
    world.distributor.demand(0, sender=account("watcher"))
    pass_time(CHALLENGE_S)
    world.distributor.reject_withheld(0)
    statement = root_statement(world, 1, 1, tree.root, CONTENT)
    with refused("not shown"):
        world.court.accuse_signed_fraud(statement, sign(world, CULPRIT, statement))


def test_a_signed_leaf_that_the_final_root_contradicts(world: World) -> None:
    amounts = {account_bytes(f"provider {number}"): (number * 10, 1) for number in range(1, 6)}
    tree = tree_of(amounts)
    propose(world, 4, tree)
    true = tree.leaf(2)
    told = msgspec.structs.replace(true, released_micro=true.released_micro + 5)
    subject = true.account.rjust(32, b"\0")
    proof = tree.prove(2)

    def report(statement: Statement, leaf: Leaf = true, role: str = CULPRIT) -> None:
        world.court.accuse_leaf(
            statement, sign(world, role, statement), 5, 2, leaf_tuple(leaf), words(proof.path),
            sender=account("reporter"),
        )  # fmt: skip

    wrong = (KIND_LEAF, subject, 4, leaf_hash(told))
    with refused("not final"):
        report(wrong)
    pass_time(CHALLENGE_S)
    world.distributor.finalise()
    for words_, statement, leaf in (
        ("they agree", (KIND_LEAF, subject, 4, leaf_hash(true)), true),
        ("account", (KIND_LEAF, bytes(32), 4, leaf_hash(told)), true),
        ("not final", (KIND_LEAF, subject, 5, leaf_hash(told)), true),
        ("kind", (KIND_ROOT, subject, 4, leaf_hash(told)), true),
        ("not in the tree", (KIND_LEAF, subject, 4, leaf_hash(true)), told),
    ):
        with refused(words_):
            report(statement, leaf)
    with refused("not a verifier's"):
        report(wrong, role="attacker")
    report(wrong)
    assert tokens(world, "reporter") == OWN // 10
    with refused("punished"):
        report(wrong)


# Verdicts


def verdict(node: bytes, **changes: object) -> tuple[object, ...]:
    fields: dict[str, object] = {
        "node": node,
        "evidence": keccak_256(b"lost"),
        "epoch": 3,
        "bond_bps": 1_000,
        "repair_bps": 5_000,
        "customer_bps": 3_000,
        "customer_account": account("customer"),
        "reporter": account("reporter"),
        "held_micro": 0,
    }
    return tuple((fields | changes).values())


def verdict_statement(one: tuple[object, ...]) -> Statement:
    from eth_abi.abi import encode

    types = ["bytes32", "bytes32", *["uint256"] * 4, "address", "address", "uint256"]
    return (
        KIND_VERDICT,
        keccak_256(bytes(one[0]) + bytes(one[1])),  # type: ignore[call-overload]
        int(one[2]),  # type: ignore[call-overload]
        keccak_256(encode(types, one)),
    )


def carry_out(
    world: World, one: tuple[object, ...], signers: tuple[str, ...] = VERIFIERS[:2]
) -> int:
    signatures = sign_all(world, signers, verdict_statement(one))
    taken: int = world.court.carry_out(one, signatures, sender=account("anybody"))
    return taken


def got(world: World) -> list[int]:
    roles = ("repair", "customer", "reporter", "insurance")
    return [tokens(world, role) // TOKEN for role in roles]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [50, 30, 10, 10]),
        ({"repair_bps": 9_500}, [95, 5, 0, 0]),
        ({"repair_bps": 10_000}, [100, 0, 0, 0]),
        ({"repair_bps": 0, "customer_bps": 0}, [0, 0, 10, 90]),
        ({"repair_bps": 0, "customer_bps": 9_500}, [0, 95, 5, 0]),
        ({"customer_account": ZERO}, [50, 0, 10, 40]),
        ({"reporter": ZERO}, [50, 30, 0, 20]),
        ({"bond_bps": 10_000}, [500, 300, 100, 100]),
        ({"bond_bps": 0}, [0, 0, 0, 0]),
    ],
)
def test_repair_then_customer_then_reporter_then_insurance(
    world: World, node: bytes, changes: dict[str, object], expected: list[int]
) -> None:
    taken = carry_out(world, verdict(node, **changes))
    assert got(world) == expected
    assert taken == sum(expected) * TOKEN
    assert world.bond.coverage(node)[0] == OWN - taken
    assert world.token.balanceOf(world.court.address) == 0


def test_a_verdict_is_carried_out_once_and_as_signed(world: World, node: bytes) -> None:
    one = verdict(node)
    with refused("quorum"):
        carry_out(world, one, VERIFIERS[:1])
    with refused("quorum"):
        carry_out(world, one, (VERIFIERS[0], "attacker"))
    signatures = sign_all(world, VERIFIERS, verdict_statement(one))
    for change in (
        {"bond_bps": 1_001},
        {"repair_bps": 0},
        {"customer_bps": 3_001},
        {"customer_account": account("attacker")},
        {"reporter": account("attacker")},
        {"held_micro": 1},
        {"epoch": 4},
        {"evidence": keccak_256(b"other")},
        {"node": world.court.node_of(account(CULPRIT))},
    ):
        with refused("quorum"):
            world.court.carry_out(verdict(**{"node": node} | change), signatures)
    carry_out(world, one)
    with refused("punished"):
        carry_out(world, one)
    # The same evidence with other figures, or in another epoch, is the same fault.
    for change in ({"bond_bps": 2_000}, {"epoch": 4}):
        with refused("punished"):
            carry_out(world, verdict(node, **change))
    carry_out(world, verdict(node, evidence=keccak_256(b"other")))
    assert world.bond.coverage(node)[0] == OWN * 9 // 10 * 9 // 10, "a tenth of what is left"


@pytest.mark.parametrize("name", ["bond_bps", "repair_bps", "customer_bps"])
def test_shares_of_a_verdict_are_of_the_whole(world: World, node: bytes, name: str) -> None:
    with refused("shares"):
        carry_out(world, verdict(node, **{name: 10_001}))
    carry_out(world, verdict(node, **{name: 10_000}))


def test_a_share_is_of_all_that_answers_and_the_own_tranche_goes_first(
    world: World, node: bytes
) -> None:
    world.give_token("delegator", 600 * TOKEN)
    world.bond.delegate(node, 600 * TOKEN, 0, sender=account("delegator"))
    world.bond.leave(node, 0, 200 * TOKEN * 10**6, sender=account("delegator"))
    half = verdict(node, bond_bps=5_000)
    assert carry_out(world, half) == 800 * TOKEN, "what is leaving answers, too"
    assert world.bond.coverage(node)[:2] == (200 * TOKEN, 600 * TOKEN)
    rest = verdict(node, bond_bps=10_000, evidence=keccak_256(b"other"))
    assert carry_out(world, rest) == 800 * TOKEN
    assert world.bond.coverage(node)[:2] == (0, 0)


def test_forfeited_held_funds_are_announced(world: World, node: bytes) -> None:
    carry_out(world, verdict(node, bond_bps=0, held_micro=77))
    (event,) = world.court.events("HeldForfeited")
    assert (event.values["node"], event.values["amount_micro"]) == (node, 77)
    carry_out(world, verdict(node, evidence=keccak_256(b"other")))
    assert not world.court.events("HeldForfeited")


def test_a_verdict_reaches_who_is_leaving(world: World, node: bytes) -> None:
    world.bond.leave_own(node, OWN, sender=account("provider"))
    pass_time(13 * 86_400)
    assert carry_out(world, verdict(node)) == 100 * TOKEN


def test_a_removed_key_signs_no_verdict(world: World, node: bytes) -> None:
    world.court.remove_verifier(account(VERIFIERS[0]), sender=world.owner)
    with refused("quorum"):
        carry_out(world, verdict(node), VERIFIERS[:2])
    carry_out(world, verdict(node), VERIFIERS[1:])


def test_a_token_that_calls_back_gets_nothing(world: World, node: bytes) -> None:
    one = verdict(node)
    signatures = sign_all(world, VERIFIERS, verdict_statement(one))
    again = verdict(node, evidence=keccak_256(b"other"))
    more = sign_all(world, VERIFIERS, verdict_statement(again))
    for name, arguments in (("carry_out", (again, more)), ("quorum", ())):
        data = world.court.function(name, len(arguments)).data(*arguments)
        world.token.set_hook(world.court.address, data)
        if name == "carry_out":
            world.court.carry_out(one, signatures)
        else:
            carry_out(world, verdict(node, evidence=keccak_256(b"third")))
        assert world.token.hook_calls() >= 4
        assert not world.token.hook_worked()
    assert world.bond.coverage(node)[0] == OWN * 9 // 10 * 9 // 10


def test_connecting(world: World) -> None:
    some = account("somebody")
    fresh = deploy("SlashCourt", world.parameters.address, some, some, [], [])
    with refused("not the deployer"):
        fresh.connect(some, some, sender=account("attacker"))
    for wrong in ((ZERO, some), (some, ZERO)):
        with refused("zero address"):
            fresh.connect(*wrong, sender=account("deployer"))
    fresh.connect(some, some, sender=account("deployer"))
    with refused("connected"):
        fresh.connect(some, some, sender=account("deployer"))
    for place in range(3):
        arguments = [some] * 3
        arguments[place] = ZERO
        with refused("zero address"):
            deploy("SlashCourt", *arguments, [], [])


def test_gas() -> None:
    with new_chain():
        measure_gas()


def measure_gas() -> None:
    world = ready_world()
    node, measured = bonded_node(world), {}
    one = verdict(node)
    signatures = sign_all(world, VERIFIERS[:2], verdict_statement(one))
    transaction()
    world.court.carry_out(one, signatures, sender=account("anybody"))
    measured["verdict, 2 signatures"] = world.court.gas_used()
    pair = [sign(world, CULPRIT, said(value)) for value in ("a", "b")]
    transaction()
    world.court.accuse_equivocation(
        said("a"), pair[0], said("b"), pair[1], sender=account("reporter")
    )
    measured["equivocation"] = world.court.gas_used()
    check_gas("SlashCourt", measured, {"verdict, 2 signatures": 400_000, "equivocation": 300_000})
