"""Any mixture of faulty nodes: the right bytes or a typed error, and nothing left behind."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.client.cluster import Cluster, MemoryNode, pattern

from atoll.client.transfer.download import DownloadLimits
from atoll.client.transfer.upload import UploadLimits
from atoll.core.errors import AtollError, Kind
from atoll.core.scheme import RS_2_4, RS_4_8, RS_10_20

PUT_FAULTS = ["none", "none", "none", "dead", "refuses", "dies", "stalls"]
GET_FAULTS = ["dead", "lies", "lies once", "hangs", "dies", "cuts", "empty"]
PATIENCE = UploadLimits(piece_timeout_s=0.05, tail_s_min=0.01, lag_s=0.02, late_s_min=0.03)


def spoil_puts(node: MemoryNode, fault: str, after: int) -> None:
    match fault:
        case "dead":
            node.dead = True
        case "refuses":
            node.refuses = Kind.DISK_FULL
        case "dies":
            node.dies_after_bytes = after
        case "stalls":
            node.stalls_after_bytes = after


def spoil_gets(node: MemoryNode, fault: str) -> None:
    match fault:
        case "dead":
            node.dead = True
        case "lies":
            node.lies = True
        case "lies once":
            node.lies_once = True
        case "hangs":
            node.hangs_on_get = True
        case "dies":
            node.dies_after_reads = 2
        case "cuts":
            node.cuts_streams = 3
        case "empty":
            node.pieces.clear()


async def check_nothing_left(cluster: Cluster) -> None:
    await cluster.downloader.examiner.close()
    await asyncio.sleep(0)
    assert cluster.puts_running == 0
    assert cluster.pool.bytes_in_use == 0
    assert len(asyncio.all_tasks()) == 1


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_mixture_of_faults(data: st.DataObject) -> None:
    scheme = data.draw(st.sampled_from([RS_2_4, RS_4_8, RS_10_20]))
    count = data.draw(st.integers(scheme.n, scheme.n + 8))
    size = data.draw(st.sampled_from([5000, 60_000, 140_000, 2_500_000]))
    faults = data.draw(st.lists(st.sampled_from(PUT_FAULTS), min_size=count, max_size=count))
    after = data.draw(st.integers(1, 300_000))
    turns = data.draw(st.permutations(range(scheme.n)))
    read_faults = data.draw(st.lists(st.sampled_from(GET_FAULTS), max_size=scheme.n))
    content = pattern(size)

    async def scenario() -> None:
        cluster = Cluster(
            count,
            scheme=scheme,
            upload=PATIENCE,
            download=DownloadLimits(piece_timeout_s=1.0),
            pool_bytes=8 << 20,
        )
        for node, fault in zip(cluster.nodes, faults, strict=True):
            spoil_puts(node, fault, after)
        try:
            segments = await cluster.put(content)
        except AtollError as error:
            refusal = error.kind
        else:
            refusal = None
        await asyncio.sleep(0)
        if refusal is not None:
            assert refusal is Kind.TOO_FEW_NODES
            assert faults.count("none") * 4 < count * 3, "with most nodes well it must succeed"
            await check_nothing_left(cluster)
            return
        (segment,) = segments
        durable = 2 if segment.k == 1 else scheme.durable
        assert len({piece.alias for piece in segment.pieces}) >= durable
        spare = len(segment.pieces) - segment.k
        for node in cluster.nodes:
            node.dead = False
        holders = [cluster.nodes[piece.alias - 1] for piece in segment.pieces]
        chosen = [holders[turn] for turn in turns if turn < len(holders)]
        for node, fault in zip(chosen[:spare], read_faults, strict=False):
            spoil_gets(node, fault)
        async with asyncio.timeout(20):
            assert await cluster.get(segments) == content
        liars = {node.alias for node in cluster.nodes if node.lies or node.lies_once is False}
        assert {report.alias for report in cluster.liars} <= liars
        await check_nothing_left(cluster)

    asyncio.run(scenario())
