#!/usr/bin/env python3
"""The server as other clients, broken ones and hostile ones meet it."""
import concurrent.futures
import http.client
import json
import pathlib
import re
import socket
import time

import bench
from bench import Server, form

PAGE = pathlib.Path(__file__).parents[2] / "packaging/man/preheatd.8"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100


def error_of(answer, status, code, param="any"):
    found, headers, body = answer
    assert found == status, (found, body)
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"], error
    assert error["code"] == code, error
    if param != "any":
        assert error["param"] == param, error
    return headers


def video_object_is_complete():
    with Server("step_msec=30") as s:
        first = s.create("a cat", seed=5)
        api = {"id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at", "prompt",
               "size", "seconds", "remixed_from_video_id", "error"}
        own = {"seed", "width", "height", "num_frames", "fps", "num_inference_steps", "step",
               "queue_position", "eta_seconds", "phase", "degraded", "stage_seconds", "peak_device_memory_mb", "start"}
        assert set(first) == api | own, set(first) ^ (api | own)
        second = s.create("a dog", seed=6)
        third = s.create("a bird", seed=7)
        s.wait(first["id"], "in_progress")
        _, headers, video = s.ask("GET", f"/v1/videos/{third['id']}")
        assert video["queue_position"] == 2 and video["phase"] == "queued"
        assert headers["openai-poll-after-ms"]
        seen, phases = [], set()
        while True:
            _, _, video = s.ask("GET", f"/v1/videos/{first['id']}")
            seen.append(video["progress"])
            phases.add(video["phase"])
            if video["status"] == "completed":
                break
        assert seen == sorted(seen) and seen[-1] == 100, seen
        assert len(set(seen)) >= 5, seen  # not from 0 to 100 in one step
        assert "denoising" in phases, phases
        assert video["stage_seconds"]["denoising"] > 0 and video["peak_device_memory_mb"] == 5120
        assert video["start"] == "hot" and video["eta_seconds"] is None and video["queue_position"] is None
        _, _, waiting = s.ask("GET", f"/v1/videos/{third['id']}")
        assert waiting["eta_seconds"] > 0  # told from the one that is done
        _, headers, _ = s.ask("GET", f"/v1/videos/{first['id']}")
        assert "openai-poll-after-ms" not in headers
        s.ask("DELETE", f"/v1/videos/{second['id']}")


def create_refusals():
    big = "x" * 1001
    table = [
        ({}, 400, "missing_required_parameter", "prompt"),
        ({"prompt": big}, 400, "invalid_value", "prompt"),
        ({"prompt": "a", "bogus": 1}, 400, "unknown_parameter", "bogus"),
        ({"prompt": "a", "size": "130x128"}, 400, "invalid_value", "size"),
        ({"prompt": "a", "width": 130}, 400, "invalid_value", "width"),
        ({"prompt": "a", "height": 99999}, 400, "invalid_value", "height"),
        ({"prompt": "a", "size": "1280x1280"}, 400, "invalid_value", "size"),
        ({"prompt": "a", "num_frames": 16}, 400, "invalid_value", "num_frames"),
        ({"prompt": "a", "num_frames": 125}, 400, "invalid_value", "num_frames"),
        ({"prompt": "a", "seconds": "99"}, 400, "invalid_value", "seconds"),
        ({"prompt": "a", "fps": 61}, 400, "invalid_value", "fps"),
        ({"prompt": "a", "num_inference_steps": 101}, 400, "invalid_value", "num_inference_steps"),
        ({"prompt": "a", "guidance_scale": 20.5}, 400, "invalid_value", "guidance_scale"),
        ({"prompt": "a", "flow_shift": -1}, 400, "invalid_value", "flow_shift"),
        ({"prompt": "a", "scheduler": "x"}, 400, "invalid_value", "scheduler"),
        ({"prompt": "a", "seed": -1}, 400, "invalid_value", "seed"),
        ({"prompt": "a", "seed": 2**63}, 400, "invalid_json", None),
        ({"prompt": "a", "n": 5}, 400, "invalid_value", "n"),
        ({"prompt": "a", "priority": "x"}, 400, "invalid_value", "priority"),
        ({"prompt": "a", "model": "other"}, 404, "model_not_found", "model"),
        ({"prompt": "a", "num_frames": 121}, 400, "insufficient_memory", None),
        ({"prompt": "a", "input_reference": {"file_id": "f"}}, 400, "unsupported_value", "input_reference"),
        ({"prompt": "a", "input_reference": {"image_url": "http://169.254.169.254/"}}, 400, "invalid_value",
         "input_reference"),
        ([], 400, "invalid_json", None),
    ]
    with Server() as s:
        for body, status, code, param in table:
            error_of(s.ask("POST", "/v1/videos", body), status, code, param)
        _, _, page = s.ask("GET", "/v1/videos")
        assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}, page


def bad_bodies():
    json_type = {"Content-Type": "application/json"}
    _, form_type = form()
    table = [
        (b"", json_type, 400, "invalid_json"),
        (b"{", json_type, 400, "invalid_json"),
        (b'{"prompt": "\xff"}', json_type, 400, "invalid_json"),
        (b'{"prompt": "a\\u0000"}', json_type, 400, "invalid_json"),
        (b"[" * 50000, json_type, 400, "invalid_json"),
        (b'{"prompt":"a"}', {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"prompt=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        (b'{"prompt":"a"}', {"Content-Type": "application/jsonx"}, 415, "unsupported_media_type"),
        (b"", form_type, 400, "invalid_multipart"),
        (b"--XX\r\n", form_type, 400, "invalid_multipart"),
        (b"nonsense", form_type, 400, "invalid_multipart"),
        (b"--XX\r\n\r\na\r\n--XX--\r\n", form_type, 400, "invalid_multipart"),
        (form(("prompt", "a"))[0][:-4], form_type, 400, "invalid_multipart"),
        (form(("prompt", "a"))[0], {"Content-Type": "multipart/form-data"}, 400, "invalid_multipart"),
        (form(("prompt", b"\xff"))[0], form_type, 400, "invalid_value"),
        (form(("prompt", "a"), ("prompt", "b"))[0], form_type, 400, "invalid_value"),
        (form(("prompt", "a"), ("seed", "x"))[0], form_type, 400, "invalid_type"),
        (form(("prompt", "a"), ("b\xe9gus", "x"))[0], form_type, 400, "unknown_parameter"),
        (form(("prompt", "a"), ("file", PNG, "a.png"))[0], form_type, 400, "unknown_parameter"),
        (form(("prompt", "a"), ("input_reference", b"<svg/>", "a.png"))[0], form_type, 400, "invalid_image"),
        (form(*[(f"f{i}", "x") for i in range(40)])[0], form_type, 413, "request_too_large"),
    ]
    with Server() as s:
        for body, headers, status, code in table:
            error_of(s.ask("POST", "/v1/videos", body, headers), status, code)
        body, headers = form(("prompt", "a"), ("input_reference", PNG, "whatever"), boundary="a'b c")
        headers["Content-Type"] = "multipart/form-data; boundary=\"a'b c\""
        assert s.ask("POST", "/v1/videos", body, headers)[0] == 200


def bodies_are_limited():
    with Server() as s:
        limit = (1 << 20) // 3 * 4 + 1000 * 24 + (64 << 10)
        body, headers = form(("prompt", "a"), ("input_reference", PNG + b"x" * (1 << 20), "a.png"))
        error_of(s.ask("POST", "/v1/videos", body, headers), 413, "request_too_large")
        error_of(s.ask("POST", "/v1/videos", b"x" * (limit + 1), {"Content-Type": "application/json"}), 413,
                 "request_too_large")
        began = time.monotonic()  # told from the head alone, before any of the 100 GB
        answer = s.raw(b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       b"Content-Length: 100000000000\r\nExpect: 100-continue\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ") and b"100 Continue" not in answer, answer
        assert time.monotonic() - began < 5
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"  # a length that is not announced
        head = (b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        answer = s.raw(head + chunk * 24 + b"0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413 "), answer[:100]
        try:
            answer = s.raw(head + chunk * 1200)
        except OSError:
            answer = b""
        assert b" 200 " not in answer
        answer = s.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100000 + b"\r\n\r\n")
        assert answer[9:12] in (b"413", b"431"), answer[:100]
        assert s.ask("GET", "/healthz")[0] == 200


def uploads_share_a_budget():
    with Server("max_upload=300000") as s:
        body, headers = form(("prompt", "a"), ("input_reference", PNG + b"x" * 200000, "a.png"))
        with socket.create_connection(("127.0.0.1", s.port)) as slow:
            slow.sendall(b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
                         b"boundary=XX\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:180000])
            time.sleep(0.2)
            headers_seen = error_of(s.ask("POST", "/v1/videos", body, headers), 503, "too_many_uploads")
            assert headers_seen["Retry-After"] == "1"
            slow.sendall(body[180000:])
            assert slow.recv(100).startswith(b"HTTP/1.1 200 ")
        assert s.ask("POST", "/v1/videos", body, headers)[0] == 200


def routes_and_methods():
    with Server() as s:
        video = s.create()
        error_of(s.ask("GET", "/v2/videos"), 404, "not_found")
        error_of(s.ask("GET", "/v1/videos/"), 404, "not_found")
        error_of(s.ask("GET", "/v1/videos/x/y/z"), 404, "not_found")
        for bad in ("x", "video_" + "0" * 32, "video_" + "G" * 32, "%2e%2e", "x" * 500, "video_%ff", video["id"].upper()):
            error_of(s.ask("GET", f"/v1/videos/{bad}"), 404, "video_not_found", "video_id")
        for bad in ("..%2f..%2fetc%2fpasswd", "%00", "../videos"):
            assert s.ask("GET", f"/v1/videos/{bad}")[0] == 404, bad
        headers = error_of(s.ask("PUT", "/v1/videos"), 405, "method_not_allowed")
        assert headers["Allow"] == "POST, GET"
        error_of(s.ask("POST", f"/v1/videos/{video['id']}"), 405, "method_not_allowed")
        error_of(s.ask("DELETE", "/healthz"), 405, "method_not_allowed")
        for query in ("limit=-1", "limit=101", "limit=x", "limit="):
            headers = error_of(s.ask("GET", f"/v1/videos?{query}"), 400, "invalid_value", "limit")
            assert "Allow" not in headers, headers["Allow"]  # explains 405 alone
        answer = s.ask("GET", f"/v1/videos/{'x' * 500}")
        assert f"'{'x' * 60}'" in answer[2]["error"]["message"], answer
        error_of(s.ask("GET", "/v1/videos?order=up"), 400, "invalid_value", "order")
        error_of(s.ask("GET", "/v1/videos?after=x"), 404, "video_not_found", "after")
        status, _, page = s.ask("GET", "/v1/videos?limit=0")
        assert status == 200 and page["data"] == [] and page["has_more"] is True
        assert s.ask("GET", "/")[2].startswith(b"preheat\n")


def damaged_heads():
    with Server("idle_connection_msec=1000") as s:
        for head in (b"\0\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
                     b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\nHost: localhost\r\nX\r\n\r\n",
                     b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
                     b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n"):
            try:
                answer = s.raw(head, shut=True)
            except OSError:
                answer = b""
            assert b"HTTP/1.1 200" not in answer, (head, answer)
        assert s.ask("GET", "/healthz")[0] == 200


def heads_that_two_readers_take_differently():
    """What a proxy before this server may have understood otherwise is refused, and nothing behind it is read."""
    hidden = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    post = b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with Server() as s:
        for head in (post + b"Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}",
                     post + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                     post + b"Transfer-Encoding: gzip\r\n\r\n{}",
                     post + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                     post + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                     post + b"Host: localhost\r\nContent-Length: 2\r\n\r\n{}"):
            answer = s.raw(head + hidden)
            assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1, (head, answer)
            assert b"\r\nConnection: close\r\n" in answer, (head, answer)
        answer = s.raw(post + b"Connection: close\r\nTransfer-Encoding: CHUNKED\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        assert b"missing_required_parameter" in answer, answer


def ranges_and_conditions():
    with Server() as s:
        video = s.wait(s.create()["id"])
        path = f"/v1/videos/{video['id']}/content"
        status, headers, whole = s.ask("GET", path)
        n, etag = len(whole), headers["ETag"]
        assert status == 200 and headers["Accept-Ranges"] == "bytes" and n == 1024
        table = [("bytes=0-0", 0, 1), ("bytes=0-", 0, n), ("bytes=100-199", 100, 200), ("bytes=-10", n - 10, n),
                 (f"bytes={n - 1}-", n - 1, n), ("bytes=1000-99999999999999999999", 1000, n), (f"bytes=-{n * 2}", 0, n)]
        for header, first, end in table:
            status, headers, body = s.ask("GET", path, headers={"Range": header})
            assert status == 206 and body == whole[first:end], (header, status, len(body))
            assert headers["Content-Range"] == f"bytes {first}-{end - 1}/{n}", headers["Content-Range"]
        for header in ("bytes=0-1,5-6", "bytes=", "bytes=x-", "bytes=5-1", "lines=1-2", "bytes 1-2", "bytes=--5"):
            status, _, body = s.ask("GET", path, headers={"Range": header})
            assert status == 200 and body == whole, header
        for header in (f"bytes={n}-", "bytes=99999999999999999999-", "bytes=-0"):
            headers = error_of(s.ask("GET", path, headers={"Range": header}), 416, "range_not_satisfiable")
            assert headers["Content-Range"] == f"bytes */{n}", headers["Content-Range"]
        assert s.ask("GET", path, headers={"Range": "bytes=0-0", "If-Range": '"other"'})[0] == 200
        assert s.ask("GET", path, headers={"Range": "bytes=0-0", "If-Range": etag})[0] == 206
        status, headers, body = s.ask("GET", path, headers={"If-None-Match": etag})
        assert status == 304 and body == b"" and headers["ETag"] == etag
        # What a client has needs no range of it, whether or not there is one.
        for known in (f'"other", {etag}', f"W/{etag}", "*"):
            for wanted in ({}, {"Range": "bytes=0-9"}, {"Range": f"bytes={n}-"}):
                assert s.ask("GET", path, headers={"If-None-Match": known, **wanted})[0] == 304, (known, wanted)
        assert s.ask("GET", path, headers={"If-None-Match": '"other"', "Range": "bytes=0-9"})[0] == 206
        for wanted, status in ((etag, 206), ("*", 206), (f'"other",{etag}', 206)):
            assert s.ask("GET", path, headers={"If-Match": wanted, "Range": "bytes=0-9"})[0] == status, wanted
        for wanted in ('"other"', f"W/{etag}"):
            error_of(s.ask("GET", path, headers={"If-Match": wanted, "Range": "bytes=0-9"}), 412, "precondition_failed")
        status, headers, body = s.ask("HEAD", path)
        assert status == 200 and int(headers["Content-Length"]) == n and body == b""
        for wanted in ("bytes=0-9", f"bytes={n}-"):  # ranges are for GET alone
            status, headers, body = s.ask("HEAD", path, headers={"Range": wanted})
            assert status == 200 and int(headers["Content-Length"]) == n and body == b"", wanted
        status, headers, body = s.ask("GET", path + "?variant=thumbnail", headers={"Accept": "application/binary"})
        assert status == 200 and headers["Content-Type"] == "image/webp" and body[8:12] == b"WEBP"
        error_of(s.ask("GET", path + "?variant=spritesheet"), 400, "invalid_value", "variant")


def content_of_unfinished_and_gone():
    with Server("step_msec=50") as s:
        video = s.create()
        error_of(s.ask("GET", f"/v1/videos/{video['id']}/content"), 400, "video_not_ready")
        failed = s.create("fail")
        s.wait(video["id"])
        s.wait(failed["id"])
        error_of(s.ask("GET", f"/v1/videos/{failed['id']}/content"), 400, "video_generation_failed")
        (s.state / "videos" / f"{video['id']}.mp4").unlink()
        error_of(s.ask("GET", f"/v1/videos/{video['id']}/content"), 404, "video_not_found")
        assert s.ask("GET", f"/v1/videos/{video['id']}")[2]["status"] == "completed"


def delete_answers_when_it_is_gone():
    with Server("step_msec=100") as s:
        running, waiting, last = s.create("one"), s.create("two"), s.create("three")
        s.wait(running["id"], "in_progress")
        status, _, answer = s.ask("DELETE", f"/v1/videos/{running['id']}")
        assert status == 200 and answer == {"id": running["id"], "object": "video.deleted", "deleted": True}, answer
        assert s.ask("GET", f"/v1/videos/{running['id']}")[0] == 404
        assert not list((s.state / "videos").glob(running["id"] + "*"))
        assert s.ask("DELETE", f"/v1/videos/{last['id']}")[0] == 200
        assert s.wait(waiting["id"])["status"] == "completed"  # it never hits the next one
        error_of(s.ask("DELETE", f"/v1/videos/{running['id']}"), 404, "video_not_found")


def two_deletions_and_a_lost_client():
    with Server("step_msec=10") as s:
        stuck = s.create("hang")
        s.wait(stuck["id"], "in_progress")
        with socket.create_connection(("127.0.0.1", s.port)) as lost:
            lost.sendall(b"DELETE /v1/videos/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % stuck["id"].encode())
            time.sleep(0.1)
        assert s.ask("GET", "/healthz")[0] == 200  # others are served meanwhile
        status, _, _ = s.ask("DELETE", f"/v1/videos/{stuck['id']}")
        assert status in (200, 404)  # whichever of the two came first
        assert s.ask("GET", f"/v1/videos/{stuck['id']}")[0] == 404
    with Server("step_msec=10") as s:  # the server ends while a deletion waits
        stuck = s.create("hang")
        s.wait(stuck["id"], "in_progress")
        c = s.connect()
        c.request("DELETE", f"/v1/videos/{stuck['id']}")
        time.sleep(0.1)
        c.close()


def cancel_keeps_the_entry():
    with Server("step_msec=50") as s:
        running, waiting = s.create("one"), s.create("two")
        s.wait(running["id"], "in_progress")
        assert s.ask("POST", f"/v1/videos/{waiting['id']}/cancel")[2]["status"] == "failed"
        assert s.ask("POST", f"/v1/videos/{running['id']}/cancel")[0] == 200
        for video in (running, waiting):
            found = s.wait(video["id"])
            assert found["status"] == "failed" and found["error"]["code"] == "cancelled", found


def queue_limit_and_retry_after():
    with Server("step_msec=50", "queue_limit=2") as s:
        s.wait(s.create()["id"], "in_progress")
        s.create()
        error_of(s.ask("POST", "/v1/videos", {"prompt": "a", "n": 2}), 429, "queue_full")  # all or none
        s.create()
        headers = error_of(s.ask("POST", "/v1/videos", {"prompt": "a"}), 429, "queue_full")
        assert int(headers["Retry-After"]) >= 1
        _, _, health = s.ask("GET", "/healthz")
        assert health["queue"]["queued"] == 2 and health["queue"]["limit"] == 2, health


def clients_have_quotas():
    with Server("step_msec=50", "client_limit=1") as s:
        s.create()
        headers = error_of(s.ask("POST", "/v1/videos", {"prompt": "a"}), 429, "client_quota_exceeded")
        assert int(headers["Retry-After"]) >= 1


def not_ready_says_why():
    with Server() as s:
        video = s.wait(s.create()["id"])
        state = s.state
        s.own_state = False
    with Server("reason=no model is configured: run preheatctl model add DIR", state=state) as s:
        s.own_state = True
        for body, headers in ((b'{"prompt":"a"}', {"Content-Type": "application/json"}),
                              form(("prompt", "a"), ("input_reference", PNG + b"x" * 900000, "a.png"))):
            answer = s.ask("POST", "/v1/videos", body, headers)
            assert error_of(answer, 503, "not_ready")["Retry-After"] == "7"
            assert answer[2]["error"]["message"].startswith("no model is configured")
        assert s.ask("GET", f"/v1/videos/{video['id']}")[2]["status"] == "completed"
        assert s.ask("GET", f"/v1/videos/{video['id']}/content")[0] == 200
        status, _, health = s.ask("GET", "/healthz")
        assert status == 503 and health["status"] == "unavailable" and health["phase"] == "no_model", health


def jobs_survive_a_restart():
    with Server("step_msec=20") as s:
        state, s.own_state = s.state, False
        ids = [s.create(f"cat {i}")["id"] for i in range(3)]
        s.wait(ids[0], "in_progress")
    with Server(state=state) as s:
        s.own_state = True
        for i in ids:
            assert s.wait(i)["status"] == "completed"


def two_servers_do_not_share_a_directory():
    with Server() as s:
        try:
            with Server(state=s.state):
                raise SystemError("it started")
        except AssertionError as e:
            assert "another preheatd (process" in str(e), e


def tokens_hosts_and_origins():
    with Server("token=secret", "host=video.example") as s:
        error_of(s.ask("GET", "/v1/videos"), 401, "invalid_api_key")
        for bad in ("Bearer secre", "Bearer secretsecret", "Bearer ", "secret", "Basic secret", "Bearer xecret"):
            answer = s.ask("GET", "/v1/videos", headers={"Authorization": bad})
            assert error_of(answer, 401, "invalid_api_key")["WWW-Authenticate"] == "Bearer", bad
        token = {"Authorization": "Bearer secret"}
        assert s.ask("GET", "/v1/videos", headers=token)[0] == 200
        assert s.ask("GET", "/healthz")[0] == 200  # for load balancers
        error_of(s.ask("GET", "/metrics"), 401, "invalid_api_key")
        error_of(s.ask("GET", "/nowhere"), 401, "invalid_api_key")
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[::1].evil", ""):
            error_of(s.ask("GET", "/v1/videos", headers={**token, "Host": host}), 403, "forbidden")
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8484", "video.example", "video.example:443"):
            assert s.ask("GET", "/v1/videos", headers={**token, "Host": host})[0] == 200, host
        for origin in ("http://evil.example", "null", "https://localhost.evil.example", "file://", "x"):
            answer = s.ask("GET", "/v1/videos", headers={**token, "Origin": origin})
            headers = error_of(answer, 403, "forbidden")
            assert "Access-Control-Allow-Origin" not in headers
        for origin in ("http://localhost:3000", "https://video.example", f"http://127.0.0.1:{s.port}"):
            assert s.ask("GET", "/v1/videos", headers={**token, "Origin": origin})[0] == 200, origin


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def unix_socket_needs_no_token():
    with Server("token=secret") as s:
        c = UnixConnection(s.state / "api.sock")
        c.request("GET", "/v1/videos", headers={"Host": "preheat"})
        assert c.getresponse().status == 200
        c.close()


def fifty_at_once():
    with Server("step_msec=0") as s:
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            videos = list(pool.map(lambda i: s.create(f"cat {i}"), range(50)))
            done = list(pool.map(lambda v: s.wait(v["id"]), videos))
        assert all(v["status"] == "completed" for v in done) and len({v["id"] for v in done}) == 50


def clients_gone_mid_download():
    with Server() as s:
        video = s.wait(s.create("large")["id"])
        request = b"GET /v1/videos/%s/content HTTP/1.1\r\nHost: localhost\r\n\r\n" % video["id"].encode()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", s.port)) as c:
                c.sendall(request)
                c.recv(1000)
        held = socket.create_connection(("127.0.0.1", s.port))  # one that does not read at all
        held.sendall(request)
        status, headers, body = s.ask("GET", f"/v1/videos/{video['id']}/content")
        assert status == 200 and len(body) == int(headers["Content-Length"]) > 8 << 20
        assert s.ask("DELETE", f"/v1/videos/{video['id']}")[0] == 200
        data = b""  # deleted meanwhile, still read to its end
        while len(data) < len(body):
            data += held.recv(1 << 20)
        assert data.endswith(body[-1000:])
        held.close()


def closed_by(s, send, seconds):
    """Seconds until the server closes a connection on which send(socket) goes on talking."""
    with socket.create_connection(("127.0.0.1", s.port)) as c:
        c.settimeout(0.05)
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            try:
                send(c)
                if c.recv(1000) == b"":
                    break
            except socket.timeout:
                continue
            except OSError:
                break
        return time.monotonic() - began


def slow_clients_are_cut():
    with Server("idle_connection_msec=1000", "upload_msec=1500") as s:
        assert 0.9 < closed_by(s, lambda c: None, 10) < 5  # says nothing
        head = iter(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10000)
        assert 0.9 < closed_by(s, lambda c: c.send(bytes([next(head)])), 10) < 5  # a byte now and then
        body = iter(b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 20000\r\n\r\n".ljust(20000))
        first = [b"".join(bytes([next(body)]) for _ in range(120))]
        assert 1.4 < closed_by(s, lambda c: c.send(first.pop() if first else bytes([next(body)])), 10) < 6
        assert s.ask("GET", "/healthz")[0] == 200


def connections_are_limited():
    with Server("max_connections=5", "idle_connection_msec=1000") as s:
        held = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(5)]
        began = time.monotonic()
        assert s.ask("GET", "/healthz")[0] == 200  # it waits until the silent ones are cut
        assert time.monotonic() - began > 0.5
        for c in held:
            c.close()


def keep_alive_serves_many():
    with Server() as s:
        c = s.connect()
        for i in range(20):
            c.request("POST", "/v1/videos", json.dumps({"prompt": "" if i % 2 else "a"}),
                      {"Content-Type": "application/json"})
            r = c.getresponse()
            assert r.status == (400 if i % 2 else 200)
            r.read()
        c.close()


def idle_counts_work_not_looks():
    with Server("idle_msec=400") as s:
        end = time.monotonic() + 5
        while time.monotonic() < end and s.process.poll() is None:
            try:
                s.ask("GET", "/healthz")  # does not keep it up
                s.ask("GET", "/metrics")
            except OSError:
                break
            time.sleep(0.05)
        assert s.process.wait(5) == 0
    with Server("idle_msec=400") as s:
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            assert s.ask("GET", "/v1/videos")[0] == 200  # this does
            time.sleep(0.05)
        assert s.process.wait(5) == 0
        assert "exit idle" in s.process.stdout.read()


def metrics_count():
    with Server() as s:
        s.wait(s.create()["id"])
        s.wait(s.create("fail")["id"])
        s.ask("GET", "/nowhere")
        status, headers, text = s.ask("GET", "/metrics")
        text = text.decode()
        assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert 'preheat_jobs_total{outcome="completed"} 1\n' in text
        assert 'preheat_jobs_total{outcome="failed"} 1\n' in text
        assert 'preheat_http_answers_total{class="4xx"} 1\n' in text
        assert sum(int(n) for n in re.findall(r'^preheat_job_starts_total\{start="\w+"\} (\d+)$', text, re.M)) == 1
        assert 'preheat_job_phase_seconds_count{phase="denoising"} 1\n' in text
        families = re.findall(r"^# TYPE (\w+) ", text, re.M)
        page = PAGE.read_text()
        assert len(families) >= 8 and not [f for f in families if f not in page], families


def retention_is_shown_and_kept():
    with Server("retention=1") as s:
        video = s.wait(s.create()["id"])
        assert video["expires_at"] == video["completed_at"] + 1
        time.sleep(2.1)
        error_of(s.ask("GET", f"/v1/videos/{video['id']}"), 404, "video_not_found")
        assert not list((s.state / "videos").iterdir())


bench.main([
    video_object_is_complete, create_refusals, bad_bodies, bodies_are_limited, uploads_share_a_budget,
    routes_and_methods, damaged_heads, heads_that_two_readers_take_differently, ranges_and_conditions,
    content_of_unfinished_and_gone,
    delete_answers_when_it_is_gone, two_deletions_and_a_lost_client, cancel_keeps_the_entry,
    queue_limit_and_retry_after, clients_have_quotas, not_ready_says_why, jobs_survive_a_restart, two_servers_do_not_share_a_directory,
    tokens_hosts_and_origins, unix_socket_needs_no_token, fifty_at_once, clients_gone_mid_download,
    slow_clients_are_cut, connections_are_limited, keep_alive_serves_many, idle_counts_work_not_looks, metrics_count,
    retention_is_shown_and_kept])
