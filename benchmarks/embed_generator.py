"""Makes the generator that comes with bitterant out of a trained one: half precision, and a card with its measurements.

bitterant t2ue train -o build/generator
python benchmarks/embed_generator.py build/generator
python benchmarks/cifar_methods.py --images 3000 --seeds 3 --arms noise t2ue-class t2ue-sample
python benchmarks/embed_generator.py build/generator --measured FILE.md
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from bitterant.protect.methods.t2ue import T2UEPipeline, embedded_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, metavar="DIR", help="as `bitterant t2ue train` wrote it")
    parser.add_argument("--out", type=Path, default=None, help="default: the place in the package")
    parser.add_argument("--measured", type=Path, default=None, metavar="FILE", help="Markdown to end the card with")
    args = parser.parse_args()
    out = args.out or embedded_folder(must_exist=False)
    pipeline = T2UEPipeline.load(args.trained)
    shutil.rmtree(out, ignore_errors=True)
    pipeline.generator.half()
    pipeline.save_pretrained(str(out))
    shutil.copyfile(args.trained / "training.json", out / "training.json")
    card = (args.trained / "README.md").read_text(encoding="utf-8")
    if args.measured is not None:
        # What is measured takes the place of the advice to measure.
        card = card.partition("What it protects from is not known")[0] + args.measured.read_text(encoding="utf-8")
    (out / "README.md").write_text(card, encoding="utf-8")
    for path in [out / "model_index.json", *out.glob("*/config.json")]:
        # diffusers writes down the folder that the weights were read from.
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings.pop("_name_or_path", None)
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in out.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 2**20:.1f} MiB, sha256 of the weights {pipeline.generator_sha256}")


if __name__ == "__main__":
    main()
