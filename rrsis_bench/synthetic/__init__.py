"""Procedural aerial scenes with referring expressions, written in the format of a real dataset."""

from rrsis_bench.synthetic.oracle import category_oracle_ious, category_oracle_miou
from rrsis_bench.synthetic.scene import Scene, render_scene
from rrsis_bench.synthetic.spec import DEFAULT_SPEC, SceneSpec
from rrsis_bench.synthetic.writer import is_complete, synthesize

__all__ = [
    "DEFAULT_SPEC",
    "Scene",
    "SceneSpec",
    "category_oracle_ious",
    "category_oracle_miou",
    "is_complete",
    "render_scene",
    "synthesize",
]
