"""test-model PREHEATCTL MODEL PREHEATD - the commands about models, on copies of the tiny model."""
import hashlib
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

CTL, MODEL, PREHEATD = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]), sys.argv[3]
OK, FAILED, USAGE, DAMAGED = 0, 1, 2, 6


def ctl(*words, code=OK):
    r = subprocess.run([CTL, *map(str, words)], capture_output=True, text=True, timeout=60)
    assert r.returncode == code, (words, r.returncode, r.stdout, r.stderr)
    return r.stdout if code == OK else r.stderr


def weights(model, part):
    return next((model / part).glob("*.safetensors"))


def change(path, at, data):
    """Overwrites bytes; at is negative from the end."""
    with open(path, "r+b") as f:
        f.seek(at, 2 if at < 0 else 0)
        f.write(data)


def data_begins(path):
    with open(path, "rb") as f:
        return 8 + struct.unpack("<Q", f.read(8))[0]


def add_list_verify(model, models):
    out = ctl("model", "add", model, "--name", "tiny", "--models-dir", models)
    assert "405 tensors" in out and f"  name = tiny\n  path = {models}/tiny.manifest\n" in out, out
    listed = json.loads(ctl("model", "list", "--json", "--models-dir", models))
    assert [m["name"] for m in listed] == ["tiny"] and listed[0]["n_files"] == 3, listed
    assert listed[0]["weight_bytes"] == sum(p.stat().st_size for p in model.glob("*/*.safetensors"))
    assert "tiny" in ctl("model", "list", "--models-dir", models)
    assert "3 files are as they were\n" in ctl("model", "verify", "tiny", "--models-dir", models)
    assert not list(models.glob("*.partial")), "the file for resuming was left"


def name_is_taken(model, models):
    ctl("model", "add", model, "--models-dir", models)
    assert "--force replaces it" in ctl("model", "add", model, "--models-dir", models, code=FAILED)
    ctl("model", "add", model, "--models-dir", models, "--force")


def names_and_sizes_are_checked(model, models):
    for name in ("../x", ".hidden", "a b", "x" * 65, ""):
        assert "cannot name a model" in ctl("model", "add", model, "--name", name, "--models-dir", models, code=USAGE)
    for size in ("0", "3", "2048", "-2"):
        assert "--chunk-size is" in ctl("model", "add", model, "--chunk-size", size, "--models-dir", models, code=USAGE)
    ctl("model", "add", model, "--name", "small", "--chunk-size", "2", "--models-dir", models)
    assert json.loads(ctl("model", "list", "--json", "--models-dir", models))[0]["n_chunks"] > 5


def flipped_bit_is_found(model, models):
    ctl("model", "add", model, "--name", "tiny", "--models-dir", models)
    path = weights(model, "vae")
    before = path.stat()
    byte = path.read_bytes()[-100]
    change(path, -100, bytes([byte ^ 4]))
    import os
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    said = ctl("model", "verify", "tiny", "--models-dir", models, code=DAMAGED)
    assert "vae/" in said, said


def missing_and_short_files_are_found(model, models):
    ctl("model", "add", model, "--name", "tiny", "--models-dir", models)
    path = weights(model, "transformer")
    with open(path, "r+b") as f:
        f.truncate(path.stat().st_size - 4096)
    said = ctl("model", "verify", "tiny", "--models-dir", models, code=DAMAGED)
    assert "transformer/" in said, said
    said = ctl("model", "add", model, "--name", "again", "--models-dir", models, code=DAMAGED)
    assert "transformer/" in said, said
    path.unlink()
    assert "transformer/" in ctl("model", "add", model, "--name", "again", "--models-dir", models, code=FAILED)
    assert [p.name for p in models.glob("again*")] == []


def wrong_architecture_is_refused_before_reading(model, models):
    config = model / "transformer" / "config.json"
    text = json.loads(config.read_text())
    text["num_layers"] += 1
    config.write_text(json.dumps(text))
    said = ctl("model", "add", model, "--models-dir", models, code=FAILED)
    assert "transformer" in said and "blocks." in said and "reading" not in said, said
    assert not list(models.iterdir())


def weights_that_are_not_numbers_are_refused(model, models):
    path = weights(model, "transformer")
    dtype = json.loads(path.read_bytes()[8:data_begins(path)])["patch_embedding.weight"]["dtype"]
    nan = {"F32": b"\0\0\xc0\x7f", "BF16": b"\xc0\x7f", "F16": b"\0\x7e"}[dtype]
    change(path, data_begins(path), nan)
    said = ctl("model", "add", model, "--models-dir", models, code=FAILED)
    assert "NaN" in said or "finite" in said, said
    assert not list(models.glob("*.manifest"))


def published_sums_are_compared(model, models):
    ctl("model", "add", model, "--name", "tiny", "--models-dir", models)
    sums = {p.relative_to(model): hashlib.sha256(p.read_bytes()).hexdigest() for p in model.glob("*/*.safetensors")}
    path = models / "SHA256SUMS"
    path.write_text("".join(f"{s}  ./{p}\n" for p, s in sums.items()))
    assert "and as published" in ctl("model", "verify", "tiny", "--models-dir", models, "--sha256", path)
    path.write_text("".join(f"{s[::-1].upper()} *{p}\r\n" for p, s in sums.items()))
    assert "has the SHA-256" in ctl("model", "verify", "tiny", "--models-dir", models, "--sha256", path, code=DAMAGED)
    path.write_text("nothing\n")
    assert "has no sum for" in ctl("model", "verify", "tiny", "--models-dir", models, "--sha256", path, code=DAMAGED)


def damaged_manifests_are_listed_as_such(model, models):
    ctl("model", "add", model, "--name", "tiny", "--models-dir", models)
    (models / "bad.manifest").write_bytes(b"PREHEATM" + bytes(100))
    listed = json.loads(ctl("model", "list", "--json", "--models-dir", models))
    assert [m["name"] for m in listed] == ["bad", "tiny"] and listed[0]["problem"] and "problem" not in listed[1]
    ctl("model", "verify", "bad", "--models-dir", models, code=DAMAGED)
    ctl("model", "verify", "none", "--models-dir", models, code=FAILED)


def status_and_pages_without_a_daemon(model, models):
    config = models / "preheat.conf"
    config.write_text(f"[model]\nname = tiny\npath = {model}\n[jobs]\nstate_dir = {models}\n")
    common = ("--config", config, "--socket", models / "api.sock")
    said = ctl(*common, "status")
    assert "no answer: nobody answers at socket" in said and str(model) in said, said
    status = json.loads(ctl(*common, "status", "--json"))
    assert status["model"]["n_files"] == 3 and status["daemon"]["state"] == "no answer", status
    if pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB").exists():
        assert "Model 'tiny' takes 9 huge pages of 2 MiB (18 MiB)" in ctl(*common, "hugepages")
    for words, said in ((("model", "bogus"), "no command 'model bogus'"), (("model",), "the first word of a command"),
                        (("stats",), "no command 'stats'"), ((), "a command is missing"),
                        (("list", "--socket", "x"), "preheatctl --socket PATH list"),
                        (("list", "-q"), "preheatctl -q list"), (("list", "-x"), "unknown option '-x'")):
        assert said in ctl(*words, code=USAGE), words
    config.write_text("[model]\nnam = tiny\n")
    assert "nam" in ctl(*common, "status", code=FAILED)  # the command line is right, a file is not


def doctor_tells_what_to_do(model, models):
    config, lock = models / "preheat.conf", models / "versions.lock"
    lock.write_text(subprocess.run([PREHEATD, "--print-lock"], capture_output=True, text=True, check=True).stdout)
    text = (f"[model]\nname = tiny\npath = {model}\n[backend]\nkind = cpu\n[jobs]\nstate_dir = {models}\n"
            f"[daemon]\nlisten_http =\nversion_lock = {lock}\nversion_policy = refuse\n[media]\nprogram = {CTL}\n")
    config.write_text(text)
    common = ("--config", config, "--socket", models / "api.sock", "doctor", "--preheatd", PREHEATD)

    def found(check, code=OK):
        said = ctl(*common, "--json", code=code)
        return [f for f in json.loads(said) if f["check"] == check][0]

    assert found("versions")["state"] == "ok"
    assert all(line.startswith(("ok ", "note ")) for line in ctl(*common).splitlines()[:-1])
    with lock.open("a") as f:
        f.write("library libnever.so.1 0123\n")
    run = subprocess.run([CTL, *map(str, common)], capture_output=True, text=True)
    assert run.returncode == FAILED and "library 'libnever.so.1' is missing" in run.stdout and " -> " in run.stdout, run
    assert "problems found: 1" in run.stderr, run
    config.write_text(text.replace("refuse", "warn"))
    assert found("versions")["state"] == "note"
    config.write_text(text.replace("refuse", "warn").replace(f"program = {CTL}", "program = /nonexistent/media"))
    run = subprocess.run([CTL, *map(str, common)], capture_output=True, text=True)
    assert run.returncode == FAILED and "problem  media        '/nonexistent/media'" in run.stdout, run


CHECKS = (doctor_tells_what_to_do, add_list_verify, name_is_taken, names_and_sizes_are_checked, flipped_bit_is_found,
          missing_and_short_files_are_found, wrong_architecture_is_refused_before_reading,
          weights_that_are_not_numbers_are_refused, published_sums_are_compared,
          damaged_manifests_are_listed_as_such, status_and_pages_without_a_daemon)

failed = 0
for check in CHECKS:
    with tempfile.TemporaryDirectory(prefix="preheat-ctl-") as place:
        model, models = pathlib.Path(place) / "model", pathlib.Path(place) / "models"
        shutil.copytree(MODEL, model)
        models.mkdir()
        try:
            check(model.resolve(), models)
            print(f"ok {check.__name__}")
        except AssertionError as e:
            failed += 1
            print(f"not ok {check.__name__}: {e}")
sys.exit(failed > 0)
