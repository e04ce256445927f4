"""test-layouts PREHEATD PREHEAT-MEDIA PREHEATCTL DIFFUSERS OFFICIAL - one model in every layout that is read, served by the real daemon:
each gives the video that the Diffusers directory gives, byte by byte.
"""
import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import traceback
import zipfile

from daemon import Daemon, Place

PREHEATD, MEDIA, CTL, DIFFUSERS, OFFICIAL = map(os.path.abspath, sys.argv[1:6])
REQUEST = {"seed": 3, "num_inference_steps": 2, "num_frames": 5, "size": "64x64"}
SPIECE = "google/umt5-xxl/spiece.model"


def video_of(place, model=None):
    with Daemon(PREHEATD, place, model=model or {}) as d:
        video = d.wait(d.create(**REQUEST))
        assert video["status"] == "completed", video
        return d.ask("GET", f"/v1/videos/{video['id']}/content")[1]


def expected():
    """The rotary table's length, of which official files say nothing, made the model's constant; it limits sizes only."""
    if not hasattr(expected, "bytes"):
        with Place(DIFFUSERS, MEDIA) as place:
            config = place.copy_model() / "transformer" / "config.json"
            text = json.loads(config.read_text()) | {"rope_max_seq_len": 1024}
            config.unlink()
            config.write_text(json.dumps(text))
            expected.bytes = video_of(place)
    return expected.bytes


def add(place, model):
    """preheatctl model add: what it said on standard error, and the manifest."""
    models = place.path / "models"
    r = subprocess.run([CTL, "model", "add", model, "--name", "x", "--models-dir", models], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return r.stderr, models / "x.manifest"


def load_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    data = pathlib.Path(path).read_bytes()
    n, = struct.unpack("<Q", data[:8])
    head = json.loads(data[8:8 + n])
    head.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]) for k, v in head.items()}


class State(dict):
    """Takes the attribute that a module's state dict has."""


class PthReader(pickle.Unpickler):
    """Tensors that are whole storages, as (dtype, key, shape)."""

    def find_class(self, module, name):
        return {"OrderedDict": State, "_rebuild_tensor_v2": lambda storage, first, size, *_: (*storage, list(size))}.get(name, name)

    def persistent_load(self, name):
        return {"FloatStorage": "F32", "BFloat16Storage": "BF16"}[name[1]], name[2]


def load_pth(path):
    with zipfile.ZipFile(path) as z:
        pkl = next(n for n in z.namelist() if n.endswith("/data.pkl"))
        tensors = PthReader(z.open(pkl)).load()
        return {k: (dtype, size, z.read(pkl.replace("data.pkl", f"data/{key}"))) for k, (dtype, key, size) in tensors.items()}


def save_safetensors(path, tensors):
    """Widest elements first, as the format's own writer does, so that all are aligned."""
    head, at, order = {}, 0, sorted(tensors, key=lambda k: (-{"F32": 4, "BF16": 2, "U8": 1}[tensors[k][0]], k))
    for k in order:
        dtype, shape, data = tensors[k]
        head[k] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensors[k][2] for k in order))


def prefixed(prefix, tensors):
    return {prefix + k: v for k, v in tensors.items()}


def dit(model):
    return {k: v for path in sorted(pathlib.Path(model).glob("*.safetensors")) for k, v in load_safetensors(path).items()}


def without_weights(place):
    model = place.copy_model()
    for pattern in ("*.safetensors*", "*.pth"):
        for path in model.glob(pattern):
            path.unlink()
    return model


def official_directory():
    with Place(OFFICIAL, MEDIA) as place:
        assert video_of(place) == expected()


def official_manifest():
    with Place(OFFICIAL, MEDIA) as place:
        said, manifest = add(place, OFFICIAL)
        assert "ignoring" not in said, said
        assert video_of(place, {"path": manifest}) == expected()


def official_from_warmed_memory():
    with Place(OFFICIAL, MEDIA) as place:
        model = {"name": f"official-{os.getpid()}", "segment": place.path / f"official-{os.getpid()}"}
        warmup = [os.path.join(os.path.dirname(PREHEATD), "preheat-warmup"), "--config", place.configure({"model": model})]
        subprocess.run(warmup, check=True, capture_output=True)
        try:
            assert video_of(place, model) == expected()
        finally:
            subprocess.run([*warmup, "--evict"], check=True, capture_output=True)


def single_files():
    """A file each for the three parts; the text encoder has its other names and carries the tokenizer."""
    with Place(OFFICIAL, MEDIA) as place:
        model = without_weights(place)
        text = load_safetensors(pathlib.Path(DIFFUSERS) / "text_encoder" / "model.safetensors")
        spiece = (model / SPIECE).read_bytes()
        (model / SPIECE).unlink()
        save_safetensors(model / "dit.safetensors", dit(OFFICIAL))
        save_safetensors(model / "text.safetensors", text | {"spiece_model": ("U8", [len(spiece)], spiece)})
        save_safetensors(model / "vae.safetensors", load_pth(pathlib.Path(OFFICIAL) / "Wan2.2_VAE.pth"))
        said, manifest = add(place, model)
        assert "ignoring" not in said, said
        assert video_of(place, {"path": manifest}) == expected()


def one_file():
    """All parts in one file, told apart by prefixes; a tensor that nobody knows is told and ignored."""
    with Place(OFFICIAL, MEDIA) as place:
        model = without_weights(place)
        official = pathlib.Path(OFFICIAL)
        save_safetensors(model / "all.safetensors",
                         prefixed("model.diffusion_model.", dit(OFFICIAL)) |
                         prefixed("text_encoders.umt5xxl.transformer.", load_pth(official / "models_t5_umt5-xxl-enc-bf16.pth")) |
                         prefixed("vae.", load_pth(official / "Wan2.2_VAE.pth")) |
                         {"model.diffusion_model.extra.weight": ("F32", [1], b"\0\0\0\0")})
        said, manifest = add(place, model)
        assert "ignoring:\ntransformer: all.safetensors:model.diffusion_model.extra.weight\n" in said, said
        assert video_of(place, {"path": manifest}) == expected()


def missing_tensor_is_named():
    with Place(OFFICIAL, MEDIA) as place:
        model = without_weights(place)
        tensors = dit(OFFICIAL)
        tensors["blocks.1.norm2.bias"] = tensors.pop("blocks.1.norm3.bias")  # what the Diffusers layout calls it
        save_safetensors(model / "dit.safetensors", tensors)
        for name in ("models_t5_umt5-xxl-enc-bf16.pth", "Wan2.2_VAE.pth"):
            os.link(os.path.join(OFFICIAL, name), model / name)
        r = subprocess.run([CTL, "model", "add", model, "--models-dir", place.path / "m"], capture_output=True, text=True)
        assert r.returncode and "the model has no tensor 'blocks.1.norm2.bias' in 'transformer'" in r.stderr, r
        with Daemon(PREHEATD, place) as d:
            assert "'blocks.1.norm2.bias'" in d.refusal()


def object_is_refused():
    """A .pth file that asks for code gets a sentence, from both programs, and nothing is run."""
    class Payload:
        def __reduce__(self):
            return os.system, (f"touch '{trace}'",)

    with Place(OFFICIAL, MEDIA) as place:
        model, trace = place.copy_model(), place.path / "trace"
        vae = model / "Wan2.2_VAE.pth"
        vae.unlink()
        with zipfile.ZipFile(vae, "w") as z:
            z.writestr("Wan2.2_VAE/data.pkl", pickle.dumps({"a": Payload()}, protocol=2))
        r = subprocess.run([CTL, "model", "add", model, "--models-dir", place.path / "m"], capture_output=True, text=True)
        wanted = "'Wan2.2_VAE.pth': 'Wan2.2_VAE/data.pkl': it asks for 'posix.system'"
        assert r.returncode and wanted in r.stderr, r
        with Daemon(PREHEATD, place) as d:
            assert wanted in d.refusal()
        assert not trace.exists()


CASES = (official_directory, official_manifest, official_from_warmed_memory, single_files, one_file, missing_tensor_is_named,
         object_is_refused)


def main():
    wanted, failed = sys.argv[6:], 0
    for case in CASES:
        if wanted and case.__name__ not in wanted:
            continue
        try:
            case()
            print(f"ok {case.__name__}")
        except Exception:
            failed += 1
            print(f"not ok {case.__name__}")
            traceback.print_exc(file=sys.stdout)
    sys.exit(failed > 0)


main()
