"""What an audit finds of the files that external snapshots stand on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from snapd.hypervisor import DomainFacts, ImageInfo
from snapd.hypervisor.external import ChainFacts
from snapd.model import Disk, DomainInfo, Kind, SnapshotInfo, State
from snapd.operations.audit_chains import amiss, chain, images, lost

VM = "22222222-2222-4222-8222-222222222201"
TEMPLATE, BASE, ONE, TWO = "/t/debian.qcow2", "/i/a.qcow2", "/i/web-vda.s1.qcow2", "/i/vda.s2.qcow2"
LAYERS = tuple((path, "qcow2") for path in (TWO, ONE, BASE, TEMPLATE))


def external(name: str, base: str, overlay: str, parent: str = "", **more: Any) -> SnapshotInfo:
    return SnapshotInfo(
        name,
        1700000000,
        State.RUNNING,
        Kind.EXTERNAL,
        parent=parent,
        disks=("vda",),
        overlays=(("vda", overlay),),
        bases=(("vda", base),),
        sources=(("vda", base),),
        **more,
    )


S1 = external("s1", BASE, ONE)
S2 = external("s2", ONE, TWO, "s1", current=True)


def facts(*snapshots: SnapshotInfo, source: str = TWO, **more: Any) -> DomainFacts:
    """A linked clone of a template with the chain s1, s2, where all is well."""
    disks = (Disk("vda", source, "qcow2"),)
    info = DomainInfo(VM, "web-1", State.SHUTOFF, disks=disks)
    more.setdefault("chains", ChainFacts(layers={"vda": LAYERS}))
    return DomainFacts(info, snapshots or (S1, S2), disks, "", **more)


def of(
    looked: DomainFacts,
    broken: Mapping[str, str] | None = None,
    writers: Mapping[str, str] | None = None,
    real: Mapping[str, str] | None = None,
) -> list[tuple[str, str, str]]:
    return list(amiss(looked, broken or {}, writers or {}, real or {}))


def test_amiss_is_nothing_on_a_chain_that_is_whole() -> None:
    assert of(facts()) == []
    assert lost(facts(), {}) == set()
    assert images(facts()) == tuple(sorted((ONE, BASE, TEMPLATE)))


def test_images_are_those_that_are_known_for_qcow2_also_where_headers_were_not_read() -> None:
    """A raw base is none; one that an internal snapshot was made in can be no other."""
    assert images(facts(chains=ChainFacts())) == (ONE,)
    sources = (("vda", BASE),)
    inside = SnapshotInfo("one", 1700000000, State.SHUTOFF, disks=("vda",), sources=sources)
    assert images(facts(inside, S1, S2, chains=ChainFacts())) == tuple(sorted((ONE, BASE)))


def test_amiss_is_nothing_without_external_snapshots_whatever_the_disk_stands_on() -> None:
    """A linked clone with internal snapshots, on layers that nobody has to explain."""
    inside = SnapshotInfo("one", 1700000000, State.SHUTOFF, disks=("vda",))
    assert of(facts(inside, missing={TEMPLATE}), {BASE: "x"}, {TEMPLATE: "web-2"}) == []


def test_amiss_base_that_is_gone_names_the_disk_and_the_snapshots_that_stand_on_it() -> None:
    short = ChainFacts(layers={"vda": LAYERS[:3]})  # read to the file that can't be
    looked = facts(chains=short, missing={BASE})
    proof = f"{BASE}, which disk vda and snapshots s1, s2 stand on, is not there"
    assert of(looked) == [("missing-layer", "a.qcow2", proof)]
    assert lost(looked, {}) == {"s1", "s2"}


def test_amiss_middle_layer_that_is_no_image_leaves_what_is_below_it() -> None:
    proof = f"{ONE}, which disk vda and snapshot s2 stand on, is no image: not in qcow2 format"
    broken = {ONE: "not in qcow2 format"}
    assert of(facts(), broken) == [("broken-layer", "web-vda.s1.qcow2", proof)]
    assert lost(facts(), broken) == {"s2"}


def test_amiss_template_below_all_that_is_gone_takes_all_snapshots() -> None:
    ((reason, item, _proof),) = of(facts(missing={TEMPLATE}))
    assert (reason, item) == ("missing-layer", "debian.qcow2")
    assert lost(facts(missing={TEMPLATE}), {}) == {"s1", "s2"}


def test_amiss_names_only_some_of_many_snapshots() -> None:
    tree = [external("n0", BASE, "/i/0")]
    tree += [external(f"n{i}", f"/i/{i - 1}", f"/i/{i}", f"n{i - 1}") for i in range(1, 9)]
    tree[-1] = replace(tree[-1], current=True)
    ((_, _, proof),) = of(facts(*tree, source="/i/8", chains=ChainFacts(), missing={BASE}))
    assert "disk vda and snapshots n0, n1, n2, n3, n4 and 4 more stand on" in proof


def test_amiss_overlay_that_a_revert_unlinked_is_none() -> None:
    """libvirt's revert to s1 has removed s2's overlay and begun another file on s1's base."""
    new = "/i/a.1795994435"
    tree = (
        replace(S1, current=True, reverted=(("vda", new),)),
        replace(S2, current=False),
    )
    layers = {"vda": ((new, "qcow2"), *LAYERS[2:])}
    looked = facts(*tree, source=new, chains=ChainFacts(layers=layers), missing={TWO})
    assert of(looked) == []
    assert lost(looked, {}) == set()


def test_amiss_branch_that_is_not_the_active_one_is_looked_at_by_libvirts_record() -> None:
    new = "/i/a.1795994435"
    tree = (replace(S1, current=True, reverted=(("vda", new),)), replace(S2, current=False))
    layers = {"vda": ((new, "qcow2"), *LAYERS[2:])}
    looked = facts(*tree, source=new, chains=ChainFacts(layers=layers), missing={ONE})
    proof = f"{ONE}, which snapshot s2 stands on, is not there"
    assert of(looked) == [("missing-layer", "web-vda.s1.qcow2", proof)]
    assert lost(looked, {}) == {"s2"}


def test_amiss_tree_of_which_none_is_current_has_its_vm_for_the_thing() -> None:
    ((reason, item, _proof),) = of(facts(S1, replace(S2, current=False)))
    assert (reason, item) == ("not-in-chain", "web-1")


def test_amiss_memory_file_that_is_gone_is_of_its_snapshot() -> None:
    tree = (replace(S1, memory_file="/i/web-1.s1.ram"), S2)
    looked = facts(*tree, missing={"/i/web-1.s1.ram"})
    proof = "its RAM was in /i/web-1.s1.ram: it is not there"
    assert of(looked) == [("missing-memory-file", "s1", proof)]
    assert lost(looked, {}) == {"s1"}


def test_amiss_disk_that_has_left_the_overlay_of_the_current_snapshot() -> None:
    layers = {"vda": LAYERS[1:]}
    looked = facts(
        replace(S1, current=False),
        S2,
        external("s3", TWO, "/i/s3", "s2"),
        source=ONE,
        chains=ChainFacts(layers=layers),
    )
    assert [(reason, item) for reason, item, _ in of(looked)] == [
        ("other-file", "vda"),
        ("not-in-chain", "vda"),
    ]


@pytest.mark.parametrize("which", ["live", "stored"])
def test_amiss_image_that_was_moved_is_where_xml_and_header_part(which: str) -> None:
    paths = (TWO, ONE, "/old/a.qcow2", TEMPLATE)
    moved = ChainFacts(layers={"vda": LAYERS}, **{which: {"vda": paths}})  # type: ignore[arg-type]
    word = {"live": "running", "stored": "stored"}[which]
    proof = (
        f"below web-vda.s1.qcow2 libvirt's {word} XML has /old/a.qcow2, and its header /i/a.qcow2"
    )
    assert of(facts(chains=moved)) == [("moved-layer", "vda", proof)]
    assert of(facts(chains=moved), real={"/old/a.qcow2": BASE}) == []
    silent = ChainFacts(layers={"vda": LAYERS}, **{which: {"vda": (TWO,)}})  # type: ignore[arg-type]
    assert of(facts(chains=silent)) == []


@pytest.mark.parametrize("which", ["live", "stored"])
def test_amiss_xml_that_ends_a_chain_which_the_header_goes_on_with(which: str) -> None:
    told: Any = {which: {"vda": (TWO, ONE)}, f"{which}_ends": frozenset({"vda"})}
    word = {"live": "running", "stored": "stored"}[which]
    proof = f"below web-vda.s1.qcow2 libvirt's {word} XML has nothing, and its header /i/a.qcow2"
    assert of(facts(chains=ChainFacts(layers={"vda": LAYERS}, **told))) == [
        ("moved-layer", "vda", proof)
    ]


def test_amiss_layer_that_no_snapshot_explains_lies_above_those_that_one_does() -> None:
    for place in (0, 1):
        paths = [TWO, ONE, BASE, TEMPLATE]
        paths.insert(place, "/i/odd")
        layers = {"vda": tuple((path, "qcow2") for path in paths)}
        found = of(facts(source=paths[0], chains=ChainFacts(layers=layers)))
        below = ("vda.s2.qcow2", "web-vda.s1.qcow2")[place]
        proof = f"disk vda stands on /i/odd above {below}, and no snapshot says why"
        assert ("unexplained-layer", "odd", proof) in found
        assert len(found) == (2, 1)[place]  # at the top the disk has also left the chain


def test_amiss_layer_that_another_vm_writes_to() -> None:
    proof = f"VM web-2 writes to {BASE}, which disk vda and snapshots s1, s2 stand on"
    assert of(facts(), writers={BASE: "web-2"}) == [("shared-layer", "a.qcow2", proof)]


def test_chain_goes_by_the_header_then_by_the_record_where_headers_were_not_read() -> None:
    one_layer = {"vda": ImageInfo(TWO, backing=ONE, backing_format="qcow2")}
    looked = facts(images=one_layer, chains=ChainFacts())
    assert chain(looked, "vda") == (TWO, ONE, BASE)
    assert chain(looked, "vdb") == ()
    circle = (external("x", "/i/y", "/i/x"), external("y", "/i/x", "/i/y"))
    assert chain(facts(*circle, source="/i/x", chains=ChainFacts()), "vda") == ("/i/x", "/i/y")


@pytest.mark.parametrize(("below", "on"), [(BASE, BASE), ("", "nothing")], ids=["commit", "pull"])
def test_amiss_another_tool_committed_or_pulled_an_overlay(below: str, on: str) -> None:
    layers = tuple((path, "qcow2") for path in (TWO, below) if path)
    images = {path: ImageInfo(path, backing=base) for path, base in ((TWO, below), (ONE, BASE))}
    looked = facts(chains=ChainFacts(layers={"vda": layers}, images=images))
    proof = f"{TWO} stands on {on}, and on {ONE} by libvirt's record of snapshot s2"
    assert of(looked) == [("moved-layer", "vda", proof)]


def test_amiss_is_nothing_where_what_an_overlay_stands_on_was_not_read() -> None:
    layers = ((TWO, "qcow2"), (ONE, "qcow2"))
    assert of(facts(chains=ChainFacts(layers={"vda": layers}))) == []
