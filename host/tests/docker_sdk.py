"""What docker_sdk.rs runs: one topic of the Docker SDK for Python on the host that DOCKER_HOST names.

    docker_sdk.py TOPIC JOB HELLO     JOB and HELLO are folders to build the images `job` and `hello` from
"""

import io
import sys
import tarfile

import docker
from docker.errors import APIError, BuildError, ContainerError, ImageNotFound, NotFound


def raises(kind, call):
    """The error, which must be of that kind."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def images(client, job, hello):
    image, lines = client.images.build(path=hello, tag="hello:1", rm=True, labels={"of": "test"})
    assert any("Successfully built" in line.get("stream", "") for line in lines)
    assert image.tags == ["hello:1"] and image.labels == {"of": "test"}, image.attrs
    assert image.tag("other", tag="2")
    image.reload()
    assert sorted(image.tags) == ["hello:1", "other:2"], image.tags
    assert [found.id for found in client.images.list(filters={"label": "of=test"})] == [image.id]
    assert client.images.list(name="other")[0].id == image.id
    assert len(image.history()) >= 2

    archive = io.BytesIO(b"".join(image.save(named=True)))
    with tarfile.open(fileobj=archive) as tar:
        assert "manifest.json" in tar.getnames()
    client.images.remove("hello:1")
    client.images.remove("other:2")
    raises(ImageNotFound, lambda: client.images.get("hello:1"))
    (loaded,) = client.images.load(archive.getvalue())
    assert loaded.id == image.id
    build = lambda words: client.images.build(fileobj=io.BytesIO(words))
    # What is wrong with the Dockerfile is told before anything is built, what is wrong with the context while it is.
    linux = raises(APIError, lambda: build(b"FROM scratch\nRUN apt-get update\n"))
    assert linux.status_code == 400 and "Dockerfile:2:1" in linux.explanation, linux.explanation
    assert "missing" in str(raises(BuildError, lambda: build(b"FROM scratch\nCOPY missing /\n")))
    raises(ImageNotFound, lambda: client.containers.create("nothing:1"))
    assert "ImagesDeleted" in client.images.prune(filters={"dangling": False})


def runs(client, job, hello):
    client.images.build(path=job, tag="job")
    assert client.containers.run("job", ["echo", "one", "two"], remove=True) == b"one two\n"
    assert client.containers.run("job", ["warn", "x"], remove=True, stdout=False, stderr=True) == b"x\n"
    error = raises(ContainerError, lambda: client.containers.run("job", ["cat", "/missing"], remove=True))
    assert error.exit_status == 1 and b"job: cannot open" in error.stderr, error
    told = client.containers.run("job", ["env", "SKY"], environment={"SKY": "blue"}, remove=True)
    assert told == b"blue\n"
    assert client.containers.list(all=True) == []

    container = client.containers.run("job", ["lines", "3"], detach=True, name="lines", labels=["mine"])
    assert container.wait(timeout=60) == {"StatusCode": 0}, "no Error where there is none"
    assert container.logs() == b"line 1\nline 2\nline 3\n"
    assert container.logs(tail=1) == b"line 3\n"
    assert list(container.logs(stream=True, follow=True)) != []
    assert b"Z line 1" in container.logs(timestamps=True)
    container.reload()
    assert container.status == "exited" and container.image.tags == ["job:latest"]
    container.remove()
    raises(NotFound, container.reload)
    slow = client.containers.run("job", ["sleep", "1500"], detach=True)
    assert b"".join(slow.attach(stream=True, logs=True)) == b"slept\n"


def lives(client, job, hello):
    client.images.build(path=hello, tag="hello")
    container = client.containers.run(
        "hello", detach=True, name="one", ports={"5000/tcp": ("127.0.0.1", None)}, labels={"tier": "front"},
        restart_policy={"Name": "always"}, mem_limit="128m",
    )
    container.reload()
    assert container.status == "running" and container.name == "one"
    assert container.ports["5000/tcp"][0]["HostIp"] == "127.0.0.1", container.ports
    for _ in range(10):
        code, output = container.exec_run(["ls", "/"])
        assert (code, output) == (0, b"hello.wasm\n"), (code, output)
    assert container.exec_run(["sh", "-c", "exit 3"]).exit_code == 3
    assert container.exec_run("no-such-tool").exit_code == 127
    stats = container.stats(stream=False)
    assert stats["memory_stats"]["limit"] == 128 << 20, stats
    assert stats["cpu_stats"]["cpu_usage"]["total_usage"] >= 0 and stats["name"] == "/one"
    assert next(container.stats(decode=True))["id"] == container.id
    assert container.top()["Processes"]

    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    container.rename("renamed")
    container.restart(timeout=2)
    container.update(mem_limit="64m", memswap_limit="64m")
    container.stop(timeout=2)
    container.reload()
    assert container.attrs["State"]["ExitCode"] == 143 and container.name == "renamed"
    container.start()
    container.kill()
    container.wait()
    raises(APIError, container.kill)
    container.remove(v=True, force=True)


def filters(client, job, hello):
    client.images.build(path=job, tag="job")
    old = client.containers.create("job", name="old", labels={"a": "1"})
    new = client.containers.run("job", ["spin"], detach=True, name="new", labels={"a": "2"})
    ids = lambda **wanted: [container.name for container in client.containers.list(**wanted)]
    assert ids() == ["new"] and ids(all=True) == ["new", "old"]
    assert ids(all=True, filters={"status": "created"}) == ["old"]
    assert ids(all=True, filters={"label": "a=1"}) == ["old"]
    assert ids(all=True, filters={"label": ["a", "a=2"]}) == ["new"]
    assert ids(all=True, filters={"ancestor": "job", "name": "ol"}) == ["old"]
    assert ids(limit=1) == ["new"]
    assert ids(all=True, filters={"before": "new"}) == ["old"] and ids(all=True, filters={"since": "old"}) == ["new"]
    assert raises(APIError, lambda: client.containers.list(filters={"colour": "red"})).status_code == 400
    assert client.containers.get(new.short_id).id == new.id
    conflict = raises(APIError, lambda: client.containers.create("job", name="old"))
    assert conflict.status_code == 409 and "already in use" in conflict.explanation
    assert raises(APIError, lambda: new.remove()).status_code == 409
    assert raises(NotFound, lambda: client.containers.get("nobody")).explanation == "No such container: nobody"
    raises(APIError, lambda: client.containers.create("job", runtime="made-up"))
    new.kill()
    pruned = client.containers.prune()
    assert sorted(pruned["ContainersDeleted"]) == sorted([old.id, new.id]), pruned


def networks(client, job, hello):
    client.images.build(path=job, tag="job")
    network = client.networks.create("net", driver="bridge", labels={"of": "test"})
    assert [found.name for found in client.networks.list(names=["net"])] == ["net"]
    container = client.containers.create("job", ["spin"], name="member", network="net")
    container.start()
    network.reload()
    assert [member.name for member in network.containers] == ["member"]
    refused = raises(APIError, network.remove)
    assert refused.status_code == 403 and "active endpoints" in refused.explanation
    network.disconnect(container)
    network.connect(container, aliases=["other"])
    container.reload()
    assert "other" in container.attrs["NetworkSettings"]["Networks"]["net"]["Aliases"]
    container.remove(force=True)
    assert client.networks.prune()["NetworksDeleted"] == ["net"]

    volume = client.volumes.create(name="store", labels={"of": "test"})
    client.containers.run("job", ["write", "/s/note", "kept"], volumes={"store": {"bind": "/s", "mode": "rw"}}, remove=True)
    assert client.containers.run("job", ["cat", "/s/note"], volumes=["store:/s:ro"], remove=True) == b"kept\n"
    assert [found.name for found in client.volumes.list(filters={"label": "of=test"})] == ["store"]
    user = client.containers.create("job", volumes=["store:/s"])
    assert raises(APIError, volume.remove).status_code == 409
    user.remove()
    volume.remove()
    raises(NotFound, lambda: client.volumes.get("store"))


def events(client, job, hello):
    client.images.build(path=job, tag="job")
    stream = client.events(decode=True, filters={"type": "container", "label": "watched"})
    client.containers.run("job", ["exit", "4"], detach=True, labels=["watched"]).wait()
    seen = []
    for event in stream:
        seen.append(event["Action"])
        if event["Action"] == "die":
            assert event["Actor"]["Attributes"]["exitCode"] == "4" and event["status"] == "die", event
            break
    assert seen == ["create", "start", "die"], seen
    stream.close()
    assert client.ping() and client.version()["Os"] == "linux"
    assert client.info()["ContainersStopped"] == 1
    assert client.df()["Images"][0]["RepoTags"] == ["job:latest"]


TOPICS = [images, runs, lives, filters, networks, events]

if __name__ == "__main__":
    _, topic, *folders = sys.argv
    (run,) = [one for one in TOPICS if one.__name__ == topic]
    run(docker.from_env(), *folders)
