"""Lists and watches: versions, pages, selections, bookmarks, expiry, tables."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.objects import Collection
from tests.support.vms import NAMESPACE, WAIT_LIMIT_S, vm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx

    from tests.support.vms import Vm
    from tests.support.worlds import World

CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
VMIS = Collection.VMIS.of(NAMESPACE)
MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"

_numbers = itertools.count(1)


class Maps:
    """ConfigMaps that only this test sees: nobody but the test changes them.

    Attributes:
        selector: Label selector of them all.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._set = uuid.uuid4().hex
        self.selector = f"set={self._set}"

    async def add(self, name: str, **labels: str) -> dict[str, Any]:
        """Create one; its name gets something in front."""
        labels = {"set": self._set, **labels}
        body = {"metadata": {"name": self.name(name), "labels": labels}, "data": {"count": "0"}}
        return _good(await self._http.post(CONFIG_MAPS, json=body))

    async def change(self, name: str, change: dict[str, Any]) -> dict[str, Any]:
        """Patch one."""
        path = f"{CONFIG_MAPS}/{self.name(name)}"
        return _good(await self._http.patch(path, content=json.dumps(change), headers=MERGE))

    async def remove(self, name: str) -> None:
        """Delete one."""
        _good(await self._http.delete(f"{CONFIG_MAPS}/{self.name(name)}"))

    async def list(self, **params: str) -> dict[str, Any]:
        """List them."""
        params = {"labelSelector": self.selector, **params}
        return _good(await self._http.get(CONFIG_MAPS, params=params))

    def name(self, name: str) -> str:
        """Return the full name of one."""
        return f"{self._set[:12]}-{name}"


def _good(answer: httpx.Response) -> dict[str, Any]:
    assert answer.is_success, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.http("alice") as client:
        yield client


@pytest.fixture
def maps(http: httpx.AsyncClient) -> Maps:
    return Maps(http)


class Events:
    """The events of one watch."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Return type and object of the next one.

        Raises:
            StopAsyncIteration: If the watch ended.
        """
        async with asyncio.timeout(WAIT_LIMIT_S):
            event = json.loads(await anext(self._lines))
        return event["type"], event["object"]

    async def until(self, condition: Callable[[str, dict[str, Any]], object]) -> dict[str, Any]:
        """Return the object of the first one for which something is so."""
        while True:
            kind, obj = await self.next()
            if condition(kind, obj):
                return obj

    async def ended(self) -> bool:
        """Return whether there is no more."""
        async with asyncio.timeout(WAIT_LIMIT_S):
            return await anext(self._lines, None) is None


@asynccontextmanager
async def watching(
    http: httpx.AsyncClient, path: str = CONFIG_MAPS, *, accept: str = "*/*", **params: str
) -> AsyncIterator[Events]:
    """Give a watch."""
    params = {"watch": "1", **params}
    headers = {"Accept": accept}
    async with http.stream("GET", path, params=params, headers=headers) as response:
        yield Events(response)


def version(obj: dict[str, Any]) -> int:
    return int(obj["metadata"]["resourceVersion"])


# -- lists ------------------------------------------------------------------------------------


async def test_items_of_builtin_lists_do_not_say_what_they_are(
    http: httpx.AsyncClient, maps: Maps
) -> None:
    await maps.add("one")

    listed = await maps.list()

    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert not {"kind", "apiVersion"} & listed["items"][0].keys()


async def test_items_of_lists_of_kubevirt_say_what_they_are(
    http: httpx.AsyncClient, desk: Vm
) -> None:
    listed = _good(await http.get(VMIS, params={"fieldSelector": f"metadata.name={desk.ref.name}"}))

    assert listed["kind"] == "VirtualMachineInstanceList"
    assert [item["kind"] for item in listed["items"]] == ["VirtualMachineInstance"]
    assert listed["items"][0]["apiVersion"] == "kubevirt.io/v1"


async def test_pages_add_up_to_the_list_as_it_was(maps: Maps) -> None:
    for name in "abcde":
        await maps.add(name)

    first = await maps.list(limit="2")
    await maps.add("bb")
    second = await maps.list(limit="2", **{"continue": first["metadata"]["continue"]})
    third = await maps.list(limit="2", **{"continue": second["metadata"]["continue"]})

    pages = (first, second, third)
    names = [[item["metadata"]["name"] for item in page["items"]] for page in pages]
    assert names == [[maps.name(n) for n in page] for page in ("ab", "cd", "e")]
    assert len({version(page) for page in pages}) == 1
    assert "continue" not in third["metadata"]


async def test_the_number_of_what_is_left_is_told_without_a_selection(
    http: httpx.AsyncClient, maps: Maps
) -> None:
    for name in "abc":
        await maps.add(name)
    whole = _good(await http.get(CONFIG_MAPS))

    page = _good(await http.get(CONFIG_MAPS, params={"limit": "1"}))
    chosen = await maps.list(limit="1")

    assert page["metadata"]["remainingItemCount"] == len(whole["items"]) - 1
    assert "remainingItemCount" not in chosen["metadata"]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("color=red", "ad"),
        ("color!=red", "bc"),
        ("color in (red,blue)", "abd"),
        ("color notin (red)", "bc"),
        ("color", "abd"),
        ("!color", "c"),
        ("color=red,size=big", "d"),
    ],
)
async def test_label_selectors(maps: Maps, selector: str, names: str) -> None:
    await maps.add("a", color="red")
    await maps.add("b", color="blue")
    await maps.add("c")
    await maps.add("d", color="red", size="big")

    listed = await maps.list(labelSelector=f"{maps.selector},{selector}")

    assert [item["metadata"]["name"] for item in listed["items"]] == [maps.name(n) for n in names]


async def test_field_selectors(http: httpx.AsyncClient, maps: Maps) -> None:
    await maps.add("a")
    await maps.add("b")

    listed = await maps.list(fieldSelector=f"metadata.name={maps.name('b')}")

    assert [item["metadata"]["name"] for item in listed["items"]] == [maps.name("b")]


async def test_a_field_that_cannot_be_selected_by(http: httpx.AsyncClient) -> None:
    answer = await http.get(VMIS, params={"fieldSelector": "status.phase=Running"})

    assert answer.status_code == 400
    assert answer.json()["message"] == "field label not supported: status.phase"


async def test_an_object_that_does_not_exist(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"{VMIS}/nix")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == (
        '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":'
        '"virtualmachineinstances.kubevirt.io \\"nix\\" not found","reason":"NotFound",'
        '"details":{"name":"nix","group":"kubevirt.io","kind":"virtualmachineinstances"},'
        '"code":404}\n'
    )


async def test_a_change_of_an_older_version_is_a_conflict(
    http: httpx.AsyncClient, maps: Maps
) -> None:
    old = await maps.add("one")
    await maps.change("one", {"data": {"count": "1"}})

    answer = await http.put(f"{CONFIG_MAPS}/{maps.name('one')}", json=old)

    assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
    assert answer.json()["message"] == (
        f'Operation cannot be fulfilled on configmaps "{maps.name("one")}": the object has been '
        "modified; please apply your changes to the latest version and try again"
    )


# -- watches ----------------------------------------------------------------------------------


async def test_a_watch_goes_on_where_the_list_ended(http: httpx.AsyncClient, maps: Maps) -> None:
    await maps.add("before")
    listed = await maps.list()
    made = await maps.add("one")
    changed = await maps.change("one", {"data": {"count": "1"}})
    await maps.remove("one")

    start = listed["metadata"]["resourceVersion"]
    async with watching(http, labelSelector=maps.selector, resourceVersion=start) as events:
        got = [await events.next() for _ in range(3)]

    assert [kind for kind, _ in got] == ["ADDED", "MODIFIED", "DELETED"]
    assert [obj["metadata"]["name"] for _, obj in got] == [maps.name("one")] * 3
    assert [version(obj) for _, obj in got[:2]] == [version(made), version(changed)]
    assert version(got[2][1]) > version(changed)
    assert got[2][1]["data"] == {"count": "1"}
    assert got[0][1]["kind"] == "ConfigMap"


async def test_a_watch_without_a_version_begins_with_all_that_exists(
    http: httpx.AsyncClient, maps: Maps
) -> None:
    await maps.add("a")
    await maps.add("b")

    async with watching(http, labelSelector=maps.selector) as events:
        got = [await events.next() for _ in range(2)]
        await maps.add("c")
        got.append(await events.next())

    assert [(kind, obj["metadata"]["name"]) for kind, obj in got] == [
        ("ADDED", maps.name(name)) for name in "abc"
    ]


async def test_what_leaves_a_selection_is_deleted_for_the_watcher(
    http: httpx.AsyncClient, maps: Maps
) -> None:
    start = (await maps.list())["metadata"]["resourceVersion"]
    selector = f"{maps.selector},color=red"
    async with watching(http, labelSelector=selector, resourceVersion=start) as events:
        await maps.add("a", color="blue")
        await maps.change("a", {"metadata": {"labels": {"color": "red"}}})
        entered = await events.next()
        left = await maps.change("a", {"metadata": {"labels": {"color": "blue"}}})
        gone = await events.next()

    assert (entered[0], entered[1]["metadata"]["labels"]["color"]) == ("ADDED", "red")
    assert gone[0] == "DELETED"
    # As it was when it was last in sight, with the version of the change.
    assert gone[1]["metadata"]["labels"]["color"] == "red"
    assert version(gone[1]) == version(left)


async def test_a_watch_of_one_name_sees_no_other(http: httpx.AsyncClient, maps: Maps) -> None:
    start = (await maps.list())["metadata"]["resourceVersion"]
    field = f"metadata.name={maps.name('b')}"
    async with watching(http, fieldSelector=field, resourceVersion=start) as events:
        await maps.add("a")
        await maps.add("b")
        kind, obj = await events.next()

    assert (kind, obj["metadata"]["name"]) == ("ADDED", maps.name("b"))


async def test_the_end_of_the_initial_events_is_told_by_a_bookmark(
    http: httpx.AsyncClient, maps: Maps
) -> None:
    made = await maps.add("a")
    wishes = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    async with watching(http, labelSelector=maps.selector, **wishes) as events:
        got = [await events.next() for _ in range(2)]

    assert [kind for kind, _ in got] == ["ADDED", "BOOKMARK"]
    bookmark = got[1][1]
    assert bookmark["kind"] == "ConfigMap"
    assert bookmark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert version(bookmark) >= version(made)


async def test_a_short_watch_ends_in_order_and_brings_no_bookmark(
    http: httpx.AsyncClient, maps: Maps
) -> None:
    start = (await maps.list())["metadata"]["resourceVersion"]
    wishes = {"allowWatchBookmarks": "true", "timeoutSeconds": "1", "resourceVersion": start}
    async with watching(http, labelSelector=maps.selector, **wishes) as events:
        assert await events.ended()


async def test_a_version_that_is_too_old_is_gone(http: httpx.AsyncClient) -> None:
    async with watching(http, VMIS, resourceVersion="1") as events:
        kind, status = await events.next()

    assert events.response.status_code == 200
    assert kind == "ERROR"
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")
    assert status["message"].startswith("too old resource version: 1 (")


async def test_a_version_of_the_future_is_not_waited_for_long(http: httpx.AsyncClient) -> None:
    answer = await http.get(CONFIG_MAPS, params={"resourceVersion": "999999999"})

    assert answer.status_code == 504
    assert answer.json()["reason"] == "Timeout"
    assert answer.json()["message"].startswith("Timeout: Too large resource version: 999999999")


async def test_a_version_that_is_none(http: httpx.AsyncClient) -> None:
    answer = await http.get(CONFIG_MAPS, params={"resourceVersion": "later"})

    assert answer.status_code == 400


async def test_a_vmi_goes_in_steps_and_then_altogether(
    world: World, http: httpx.AsyncClient
) -> None:
    start = _good(await http.get(VMIS))["metadata"]["resourceVersion"]
    async with watching(http, VMIS, resourceVersion=start) as events, vm(world) as short_lived:
        name = short_lived.ref.name

        def of_it(_kind: str, obj: dict[str, Any]) -> bool:
            return bool(obj["metadata"]["name"] == name)

        phases: list[str] = []
        while "Running" not in phases:
            phase = objects.phase(await events.until(of_it))
            phases += [phase] if [phase] != phases[-1:] else []
        await short_lived.delete()
        marked = await events.until(lambda k, o: of_it(k, o) and objects.deleting(o))
        last = await events.until(lambda k, o: of_it(k, o) and k == "DELETED")

    assert phases == ["Pending", "Scheduling", "Scheduled", "Running"]
    assert objects.finalizers(marked)
    assert objects.uid(last) == objects.uid(marked)
    assert objects.is_final(last)


# -- other forms ------------------------------------------------------------------------------


async def test_a_table_of_vmis(http: httpx.AsyncClient, desk: Vm) -> None:
    selected = {"fieldSelector": f"metadata.name={desk.ref.name}"}
    table = _good(await http.get(VMIS, params=selected, headers={"Accept": TABLE}))

    vmi = await desk.vmi()
    columns = [
        (column["name"], column["type"], column["priority"])
        for column in table["columnDefinitions"]
    ]
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert columns == VMI_COLUMNS
    [row] = table["rows"]
    cells = dict(zip([name for name, _, _ in columns], row["cells"], strict=True))
    assert cells["Name"] == desk.ref.name
    assert cells["Phase"] == "Running"
    assert cells["NodeName"] == objects.status(vmi)["nodeName"]
    assert cells["Ready"] == "True"
    assert cells["Live-Migratable"] == "True"
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["uid"] == objects.uid(vmi)


VMI_COLUMNS = [
    ("Name", "string", 0),
    ("Age", "date", 0),
    ("Phase", "string", 0),
    ("IP", "string", 0),
    ("NodeName", "string", 0),
    ("Ready", "string", 0),
    ("Live-Migratable", "string", 1),
    ("Paused", "string", 1),
]


async def test_a_watch_in_tables(http: httpx.AsyncClient, desk: Vm) -> None:
    selected = {"fieldSelector": f"metadata.name={desk.ref.name}"}
    async with watching(http, VMIS, accept=TABLE, **selected) as events:
        kind, first = await events.next()
        await desk.annotate(contract="yes")
        _, second = await events.next()

    assert kind == "ADDED"
    assert [column["name"] for column in first["columnDefinitions"]][:2] == ["Name", "Age"]
    assert second["columnDefinitions"] is None or second["columnDefinitions"] == []
    assert second["rows"][0]["cells"][0] == desk.ref.name


async def test_metadata_only(http: httpx.AsyncClient, desk: Vm) -> None:
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"

    found = _good(await http.get(desk.path, headers={"Accept": accept}))

    assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
    assert found["metadata"]["name"] == desk.ref.name
    assert "spec" not in found
