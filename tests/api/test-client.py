#!/usr/bin/env python3
"""The unmodified openai client against the server: everything that it can do with videos."""
import sys
import warnings

try:
    import openai
except ImportError:
    print("the openai client is not installed, see requirements.txt")
    sys.exit(77)

import bench

warnings.simplefilter("ignore", DeprecationWarning)  # the client says so of every call
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100


def client_of(server, key="none"):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=20)


def raises(kind, call, **wanted):
    try:
        call()
    except kind as e:
        for name, value in wanted.items():
            assert getattr(e, name) == value, (name, getattr(e, name), value)
        return e
    raise AssertionError(f"no {kind.__name__}")


def create_poll_download_delete():
    with bench.Server("step_msec=5") as server:
        client = client_of(server)
        video = client.videos.create(prompt="a red circle", model="tiny-test", size="320x192", seconds="1")
        assert video.object == "video" and video.status in ("queued", "in_progress"), video
        assert video.size == "320x192" and video.model == "tiny-test" and video.prompt == "a red circle"
        assert video.seconds == "1.04", video.seconds  # 25 frames at 24 per second
        video = client.videos.poll(video.id)
        assert video.status == "completed" and video.progress == 100 and video.error is None
        assert video.completed_at >= video.created_at
        content = client.videos.download_content(video.id)
        assert content.response.headers["content-type"] == "video/mp4"
        assert content.read()[4:8] == b"ftyp"
        thumbnail = client.videos.download_content(video.id, variant="thumbnail").read()
        assert thumbnail[8:12] == b"WEBP"
        deleted = client.videos.delete(video.id)
        assert deleted.deleted is True and deleted.id == video.id and deleted.object == "video.deleted"
        e = raises(openai.NotFoundError, lambda: client.videos.retrieve(video.id), code="video_not_found")
        assert e.status_code == 404


def create_and_poll_tells_when_to_ask():
    with bench.Server("step_msec=2") as server:
        video = client_of(server).videos.create_and_poll(prompt="a cat")
        assert video.status == "completed"
        raw = client_of(server).videos.with_raw_response.create(prompt="a cat")
        assert 250 <= int(raw.headers["openai-poll-after-ms"]) <= 5000


def extra_fields_arrive_as_form_text():
    with bench.Server() as server:
        client = client_of(server)
        video = client.videos.create(prompt="a cat", extra_body={
            "seed": 42, "num_inference_steps": 3, "guidance_scale": 1.5, "fps": 12, "num_frames": 9,
            "negative_prompt": "blur", "scheduler": "euler", "priority": "batch", "n": 2})
        extra = video.model_extra
        assert extra["seed"] == 42 and extra["num_frames"] == 9 and extra["fps"] == 12, extra
        assert len(extra["ids"]) == 2 and extra["ids"][0] == video.id
        second = client.videos.retrieve(extra["ids"][1])
        assert second.model_extra["seed"] == 43


def input_reference_as_file_and_object():
    import base64
    with bench.Server() as server:
        client = client_of(server)
        video = client.videos.create(prompt="a cat", input_reference=("cat.png", PNG, "image/png"))
        assert client.videos.poll(video.id).status == "completed"
        url = "data:image/png;base64," + base64.b64encode(PNG).decode()
        video = client.videos.create(prompt="a cat", extra_body={"input_reference": {"image_url": url}})
        assert client.videos.poll(video.id).status == "completed"
        raises(openai.BadRequestError, param="input_reference", code="invalid_value", call=lambda: client.videos.create(
            prompt="a cat", extra_body={"input_reference": {"image_url": "http://127.0.0.1:1/x.png"}}))
        raises(openai.BadRequestError, param="input_reference", code="invalid_image", call=lambda: client.videos.create(
            prompt="a cat", input_reference=("cat.gif", b"GIF89a", "image/png")))


def list_pages_through():
    with bench.Server("step_msec=0") as server:
        client = client_of(server)
        ids = [client.videos.create(prompt=f"cat {i}").id for i in range(7)]
        assert [v.id for v in client.videos.list(limit=3)] == ids[::-1]  # the pager asks for the other pages
        assert [v.id for v in client.videos.list(limit=2, order="asc")] == ids
        page = client.videos.list(limit=3)
        assert page.has_more and page.data[-1].id == page.last_id and page.model_extra["first_id"] == ids[-1]
        assert [v.id for v in client.videos.list(after=ids[1])] == [ids[0]]


def errors_become_the_clients_exceptions():
    with bench.Server("step_msec=50", "queue_limit=1") as server:
        client = client_of(server)
        raises(openai.BadRequestError, lambda: client.videos.create(prompt="a cat", size="100x100"), param="size")
        raises(openai.BadRequestError, lambda: client.videos.create(prompt=""), param="prompt", code="invalid_value")
        raises(openai.BadRequestError, lambda: client.videos.create(prompt="a cat", extra_body={"num_frames": 80}),
               param="num_frames")
        raises(openai.NotFoundError, lambda: client.videos.create(prompt="a cat", model="sora-2"),
               param="model", code="model_not_found")
        raises(openai.NotFoundError, lambda: client.videos.retrieve("video_x"), code="video_not_found")
        running = client.videos.create(prompt="a cat")
        server.wait(running.id, "in_progress")
        client.videos.create(prompt="a dog")
        e = raises(openai.RateLimitError, lambda: client.videos.create(prompt="a bird"), code="queue_full")
        assert int(e.response.headers["retry-after"]) >= 1
        raises(openai.BadRequestError, lambda: client.videos.download_content(running.id), code="video_not_ready")
        assert client.videos.delete(running.id).deleted


def failed_jobs_say_why():
    with bench.Server() as server:
        client = client_of(server)
        video = client.videos.create_and_poll(prompt="fail")
        assert video.status == "failed" and video.error.code == "insufficient_memory"
        assert video.error.message == "it needs 99 GiB, there are 80 GiB"
        raises(openai.BadRequestError, lambda: client.videos.download_content(video.id), code="video_generation_failed")


def remix_keeps_the_rest():
    with bench.Server() as server:
        client = client_of(server)
        video = client.videos.create(prompt="a cat", size="320x192", extra_body={"seed": 9})
        remix = client.videos.remix(video.id, prompt="a dog")
        assert remix.remixed_from_video_id == video.id and remix.prompt == "a dog" and remix.size == "320x192"
        assert remix.model_extra["seed"] == 9
        raises(openai.NotFoundError, lambda: client.videos.remix("video_" + "0" * 32, prompt="a dog"))


def token_is_asked_for():
    with bench.Server("token=secret") as server:
        raises(openai.AuthenticationError, lambda: client_of(server, "wrong").videos.list(), code="invalid_api_key")
        assert client_of(server, "secret").videos.list().data == []


def models_are_listed():
    with bench.Server() as server:
        client = client_of(server)
        assert [m.id for m in client.models.list()] == ["tiny-test"]
        assert client.models.retrieve("tiny-test").owned_by == "preheat"
        raises(openai.NotFoundError, lambda: client.models.retrieve("sora-2"), code="model_not_found")


bench.main([create_poll_download_delete, create_and_poll_tells_when_to_ask, extra_fields_arrive_as_form_text,
            input_reference_as_file_and_object, list_pages_through, errors_become_the_clients_exceptions,
            failed_jobs_say_why, remix_keeps_the_rest, token_is_asked_for, models_are_listed])
