"""An augmentation policy as data: how training pictures, sounds and series are changed, step by step, anew in every epoch.

A step has a probability with which an example gets it, and its own settings; `policy` stands for the steps of a named one. What
the steps do is in recipes.augment_policy (pictures, and sounds as spectrograms) and recipes.augment_series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from modelyard.recipes.rules import OneOf, Real, Whole, YesOrNo
from modelyard.recipes.steps import Forms, Setting, Step, completed, said, version_of, wrong

AUGMENTATION: Final = "recipe.augmentation"
REASON: Final = "INVALID_AUGMENTATION"
CUSTOM: Final = "custom"
"""What hyperparameters.augmentation says where a recipe has a policy of its own."""
STRONG: Final = "strong"
NAMED: Final = ("none", "light", "standard", STRONG)
PLACES: Final = ("shift", "crop", "zoom", "rotate", "flip")
"""Steps that move what is in a picture; marks move along."""
MIXING: Final = ("mixup", "cutmix")

_SHARE: Final = Real(0, 1)


def _form(probability: float = 1.0, **settings: Setting) -> Mapping[str, Setting]:
    return {"probability": Setting(_SHARE, probability), **settings}


PICTURE_FORMS: Final[Forms] = {
    "flip": _form(
        0.5, direction=Setting(OneOf(("horizontal", "vertical", "both")), "horizontal"), only_safe=Setting(YesOrNo(), False)
    ),
    "shift": _form(share=Setting(Real(0, 0.5), 0.05)),
    "crop": _form(least=Setting(Real(0.05, 1), 0.5), aspect=Setting(Real(1, 4), 4 / 3)),
    "zoom": _form(least=Setting(Real(0.25, 1), 0.8), most=Setting(Real(1, 4), 1.25)),
    "rotate": _form(degrees=Setting(Real(0, 180), 15.0)),
    "colour": _form(
        brightness=Setting(_SHARE, 0.15),
        contrast=Setting(_SHARE, 0.25),
        saturation=Setting(_SHARE, 0.25),
        hue=Setting(Real(0, 0.5), 0.02),
    ),
    "blur": _form(0.5, sigma=Setting(Real(0, 10, low_in=False), 1.0)),
    "noise": _form(0.5, deviation=Setting(_SHARE, 0.03)),
    "cutout": _form(0.5, share=Setting(Real(0, 0.9, low_in=False), 0.1), count=Setting(Whole(1, 16), 1)),
    "rand_augment": _form(steps=Setting(Whole(1, 8), 2), strength=Setting(_SHARE, 0.3)),
}
MIXING_FORMS: Final[Forms] = {
    "mixup": _form(alpha=Setting(Real(0, 10, low_in=False), 0.2)),
    "cutmix": _form(0.5, alpha=Setting(Real(0, 10, low_in=False), 1.0)),
}
SOUND_FORMS: Final[Forms] = {
    "gain": _form(decibels=Setting(Real(0, 40), 6.0)),
    "background": _form(0.5, least=Setting(Real(-20, 80), 10.0), most=Setting(Real(-20, 80), 30.0)),
    "time_shift": _form(share=Setting(_SHARE, 0.1)),
    "spec_augment": _form(bands=Setting(Real(0, 0.9), 0.2), frames=Setting(Real(0, 0.9), 0.2), count=Setting(Whole(1, 8), 1)),
    "speed": _form(0.5, share=Setting(Real(0, 0.5), 0.1)),
}
SERIES_FORMS: Final[Forms] = {
    "jitter": _form(deviation=Setting(_SHARE, 0.03)),
    "scaling": _form(deviation=Setting(_SHARE, 0.1)),
    "time_warp": _form(strength=Setting(Real(0, 0.9), 0.2)),
    "window": _form(least=Setting(Real(0.1, 1), 0.9)),
    "masking": _form(0.5, share=Setting(Real(0, 0.9), 0.1), count=Setting(Whole(1, 16), 1)),
    "copies": {"count": Setting(Whole(1, 50), 4)},
}
_NAME: Final[Forms] = {"policy": {"name": Setting(OneOf(NAMED), "standard")}}
ALL_FORMS: Final[Forms] = {**PICTURE_FORMS, **MIXING_FORMS, **SOUND_FORMS, **SERIES_FORMS, **_NAME}
"""Every step (protos/modelyard/trainer/v1/transform.proto)."""

FORMS: Final[Mapping[str, Forms]] = {
    "image_classification": {**PICTURE_FORMS, **MIXING_FORMS},
    "image_multilabel": PICTURE_FORMS,
    "object_detection": PICTURE_FORMS,
    "semantic_segmentation": PICTURE_FORMS,
    "keypoint_detection": {name: form for name, form in PICTURE_FORMS.items() if name != "flip"},
    "audio_classification": {**SOUND_FORMS, "mixup": MIXING_FORMS["mixup"]},
    "series_classification": SERIES_FORMS,
}
"""The steps of each task that has any."""

_SAFE_FLIP: Final = Step("flip", {"only_safe": True})
_MOVED: Final[Mapping[str, tuple[Step, ...]]] = {
    "light": (Step("shift", {"share": 0.05}), _SAFE_FLIP),
    "standard": (Step("colour", {"saturation": 0.0, "hue": 0.0}), Step("crop", {"least": 0.5}), _SAFE_FLIP),
    "strong": (
        Step("crop", {"least": 0.3}),
        _SAFE_FLIP,
        Step("rand_augment", {"steps": 2, "strength": 0.4}),
        Step("colour", {"brightness": 0.2, "contrast": 0.3, "saturation": 0.3}),
        Step("cutout", {"share": 0.15}),
    ),
}
_MARKED: Final[Mapping[str, tuple[Step, ...]]] = {
    "light": (Step("zoom", {"least": 0.9, "most": 1.1}), _SAFE_FLIP),
    "standard": (Step("colour", {"saturation": 0.0, "hue": 0.0}), Step("zoom", {"least": 0.8, "most": 1.6}), _SAFE_FLIP),
    "strong": (
        Step("zoom", {"least": 0.7, "most": 2.0}),
        Step("rotate", {"degrees": 8.0, "probability": 0.5}),
        _SAFE_FLIP,
        Step("colour", {"brightness": 0.25, "contrast": 0.35, "saturation": 0.35}),
        Step("blur", {"probability": 0.2}),
        Step("noise", {"probability": 0.2}),
        Step("cutout", {"share": 0.05, "count": 3}),
    ),
}
_POINTS: Final[Mapping[str, tuple[Step, ...]]] = {  # never mirrored: a left hand would become a right one
    "light": (Step("zoom", {"least": 0.9, "most": 1.1}),),
    "standard": (Step("colour", {"saturation": 0.0, "hue": 0.0}), Step("zoom", {"least": 0.77, "most": 1.33})),
    "strong": tuple(step for step in _MARKED["strong"] if step is not _SAFE_FLIP),
}
_SOUNDS: Final[Mapping[str, tuple[Step, ...]]] = {
    "light": (Step("time_shift", {"share": 0.05}),),
    "standard": (Step("time_shift"), Step("background"), Step("gain")),
    "strong": (
        Step("speed"),
        Step("time_shift", {"share": 0.15}),
        Step("background", {"least": 5.0}),
        Step("gain"),
        Step("spec_augment"),
    ),
}
_SERIES: Final[Mapping[str, tuple[Step, ...]]] = {
    "light": (Step("jitter", {"deviation": 0.02}), Step("copies", {"count": 2})),
    "standard": (Step("jitter"), Step("scaling"), Step("window"), Step("copies")),
    "strong": (
        Step("window", {"least": 0.8}),
        Step("time_warp"),
        Step("scaling", {"deviation": 0.2}),
        Step("masking"),
        Step("jitter", {"deviation": 0.05}),
        Step("copies", {"count": 8}),
    ),
}
_NAMED: Final[Mapping[str, Mapping[str, tuple[Step, ...]]]] = {
    "image_classification": _MOVED,
    "image_multilabel": _MOVED,
    "object_detection": _MARKED,
    "semantic_segmentation": _MARKED,
    "keypoint_detection": _POINTS,
    "audio_classification": _SOUNDS,
    "series_classification": _SERIES,
}


def check_policy(steps: Sequence[Step], task: str, path: str = AUGMENTATION) -> tuple[Step, ...]:
    """The steps with every setting filled and named policies spelt out.

    Raises InvalidArgument INVALID_AUGMENTATION that names the step's field, the value and what would be right.
    """
    if not steps:
        return ()
    if task not in FORMS:
        raise wrong(REASON, path, len(steps), f"has {len(steps)} steps, and the task is {task}", f"{', '.join(FORMS)} have steps")
    forms = {**FORMS[task], **_NAME}
    for place, step in enumerate(steps):
        if step.do in ALL_FORMS and step.do not in forms:
            right = f"for {task} there are {', '.join(forms)}"
            raise wrong(REASON, f"{path}[{place}]", step.do, f"is {step.do!r}, which is not for {task}", right)
        if step.columns or step.kind:
            raise wrong(REASON, f"{path}[{place}].columns", list(step.columns), "names columns", "only features have columns")
    found = completed(steps, forms, path, REASON)
    for place, step in enumerate(found):
        low, high = step.settings.get("least"), step.settings.get("most")
        if low is not None and high is not None and low > high:
            where = f"{path}[{place}].{step.do}.least"
            raise wrong(REASON, where, low, f"is {low:g}, above most, which is {high:g}", "at most most is right")
    spelt: list[Step] = []
    for step in found:
        spelt += named_policy(task, str(step.settings["name"])) if step.do == "policy" else (step,)
    return tuple(spelt)


def named_policy(task: str, name: str) -> tuple[Step, ...]:
    """The steps of `none`, `light`, `standard` or `strong` for a task; empty for tasks without any."""
    return completed(_NAMED.get(task, {}).get(name, ()), FORMS.get(task, {}), AUGMENTATION, REASON)


def policy_shown(steps: Sequence[Step]) -> Mapping[str, str]:
    """A policy for a comparison: its version and its steps in words; nothing for none."""
    if not steps:
        return {}
    return {"augmentation_policy": f"{version_of(steps)}: {'; '.join(said(step, ALL_FORMS) for step in steps)}"}
