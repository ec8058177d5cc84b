"""The bare surface of a strip: roll columns, grain, sparkle, scale, waves and water lines.

Every function adds to `log`, the logarithm of brightness, float32 [256, 1600], in place.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from training.strips.sampler import HEIGHT, WIDTH, FloatImage, Sampler
from training.strips.stamp import shifted, spread


def add_columns(rng: Sampler, log: FloatImage) -> None:
    """Streaks along the rolling direction: soft at every width, so that none could pass for a scratch."""
    streaked = rng.uniform(0.0, 1.0)
    profile = rng.uniform(0.02, 0.10) * rng.curve(WIDTH, 60) + streaked * (
        rng.uniform(0.0, 0.04) * rng.curve(WIDTH, 14)
        + rng.uniform(0.0, 0.035) * rng.curve(WIDTH, 3)
        + rng.uniform(0.0, 0.03) * rng.curve(WIDTH, 0.8)
    )
    if rng.chance(0.4):
        steps = np.zeros(WIDTH, np.float32)
        for _ in range(rng.integer(1, 5)):
            left = rng.integer(0, WIDTH - 1)
            steps[left : left + rng.integer(20, 500)] += rng.uniform(-0.12, 0.12)
        profile = profile + cv2.blur(steps[None], (rng.integer(3, 25), 1))[0]
    log += profile.astype(np.float32)
    cv2.scaleAdd(rng.texture("hairline"), streaked * rng.uniform(0.0, 0.04), log, dst=log)
    cv2.scaleAdd(rng.texture("drape"), streaked * rng.uniform(0.0, 0.06), log, dst=log)
    if rng.chance(0.5):
        cv2.scaleAdd(rng.texture("curtain"), rng.uniform(0.0, 0.06), log, dst=log)


def add_grain(rng: Sampler, log: FloatImage) -> None:
    """Fine roughness; stronger in some parts of the strip than in others."""
    grain = rng.uniform(0.03, 0.1) * rng.texture("grain")
    cv2.scaleAdd(rng.texture("fine"), rng.uniform(0.0, 0.08), grain, dst=grain)
    for name, probability, most in (
        ("ripple", 0.6, 0.05),
        ("dash", 0.4, 0.05),
        ("bristle", 0.35, 0.04),
        ("pebble", 0.3, 0.03),
    ):
        if rng.chance(probability):
            cv2.scaleAdd(rng.texture(name), rng.uniform(0.005, most), grain, dst=grain)
    if rng.chance(0.35):  # leather: the shaded side of a pebbled height field
        pebble = rng.texture("pebble")
        slope = cv2.Sobel(pebble, cv2.CV_32F, 0, 1, ksize=1)
        cv2.scaleAdd(slope, rng.uniform(0.01, 0.04), grain, dst=grain)
    if rng.chance(0.7):
        strength = np.clip(1.0 + rng.uniform(0.1, 0.45) * rng.field(2, 6), 0.3, 2.2)
        cv2.multiply(grain, strength, dst=grain)
    log += grain


def add_sparkle(rng: Sampler, log: FloatImage) -> None:
    """Bright and dark specks a few pixels in size, gathered in columns of the strip and often towards the bottom."""
    specks = rng.texture(rng.choose(("grain", "fine", "dash")))
    density = rng.uniform(-1.0, 0.8) + rng.field(rng.integer(1, 3), rng.integer(3, 12))
    density += rng.uniform(0.0, 0.8) * rng.curve(WIDTH, rng.uniform(5, 40))
    density += rng.uniform(-0.3, 0.8) * np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None]
    density = np.clip(density, 0.0, 1.6)
    level = rng.uniform(1.2, 3.0)
    bright = np.clip((specks - level) * rng.uniform(0.25, 0.8), 0.0, 0.9)
    log += bright * density
    if rng.chance(0.4):
        hollows = cv2.threshold(-specks, rng.uniform(2.5, 3.3), 0, cv2.THRESH_TOZERO)[1]
        log -= np.minimum(hollows * rng.uniform(0.05, 0.2), 0.6) * density


def add_scale(rng: Sampler, log: FloatImage) -> None:
    """Thin oxide in flame-shaped tongues along the rolling direction: sharp edges, small contrast, widespread."""
    pattern = rng.texture(rng.choose(("flame", "drape", "curtain"), (3, 2, 1))) + 0.45 * rng.texture("flame")
    cv2.scaleAdd(rng.texture("bristle"), rng.uniform(0.0, 0.45), pattern, dst=pattern)
    cv2.scaleAdd(rng.texture("fine"), rng.uniform(0.0, 0.25), pattern, dst=pattern)
    pattern += rng.uniform(0.3, 1.2) * rng.curve(WIDTH, rng.uniform(30, 120))
    cv2.scaleAdd(rng.field(3, 6), rng.uniform(0.2, 1.0), pattern, dst=pattern)
    cover = np.clip((pattern - rng.uniform(-0.3, 1.6)) / rng.uniform(0.1, 0.8), 0.0, 1.0)
    cv2.scaleAdd(cover, rng.uniform(0.08, 0.28) * rng.sign(), log, dst=log)


def add_mottle(rng: Sampler, log: FloatImage) -> None:
    """Cloudy oxide: rounded darker islands with a ragged rim, all over the frame."""
    pattern = rng.texture("cloud") + rng.uniform(0.2, 0.6) * rng.texture("lump")
    cv2.scaleAdd(rng.texture("flame"), rng.uniform(0.0, 0.6), pattern, dst=pattern)
    cv2.scaleAdd(rng.texture("fine"), rng.uniform(0.1, 0.4), pattern, dst=pattern)
    cv2.scaleAdd(rng.field(3, 7), rng.uniform(0.3, 1.0), pattern, dst=pattern)
    cover = np.clip((pattern - rng.uniform(0.0, 1.4)) / rng.uniform(0.2, 0.9), 0.0, 1.0)
    cv2.scaleAdd(cover, -rng.uniform(0.10, 0.30), log, dst=log)


def add_waves(rng: Sampler, log: FloatImage) -> None:
    """Transverse waves of a few pixels in height that bend and fade along the strip."""
    # Waves change slowly along x, so a quarter of the columns is enough.
    columns = WIDTH // 4
    y = np.arange(HEIGHT, dtype=np.float32)[:, None]
    x = 4.0 * np.arange(columns, dtype=np.float32)[None]
    bend = rng.uniform(3, 14) * rng.field(3, 9, width=columns)
    phase = (y + bend + rng.uniform(-0.06, 0.06) * x) * (2 * math.pi / rng.uniform(6, 22))
    phase += rng.uniform(0.2, 1.2) * rng.texture("wisp")[:, ::4]
    waves = np.sin(phase)
    crests = np.exp(rng.uniform(0.5, 1.8) * (waves - 1.0)) - 0.4
    if rng.chance(0.5):  # lit from one side: the crest falls off steeply into a dark line
        crests -= rng.uniform(0.4, 1.0) * np.maximum(shifted(waves, 0, rng.sign() * 2) - 0.5, 0.0)
    strength = np.clip(rng.field(3, 6, width=columns) + rng.uniform(-0.5, 1.0), 0.0, 2.0) * spread(rng, 0.02, 0.15)
    waves = np.asarray(cv2.resize(crests * strength, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), np.float32)
    log += waves * (1.0 + rng.uniform(0.0, 0.5) * rng.texture("ripple"))


def add_water_lines(rng: Sampler, log: FloatImage) -> None:
    """Borders of dried water: one large region slightly brighter than the other, with a smooth curved rim."""
    for _ in range(rng.integer(1, 3)):
        level = rng.field(rng.integer(2, 4), rng.integer(3, 7)) - rng.uniform(-0.5, 0.7)
        side = np.clip(level / rng.uniform(0.04, 0.6) + 0.5, 0.0, 1.0)
        cv2.scaleAdd(side, rng.uniform(-0.16, 0.16), log, dst=log)


def add_bands(rng: Sampler, log: FloatImage) -> None:
    """Wide soft bands from roll contact or coolant: ten times as wide as a scratch and without a sharp rim."""
    x = np.arange(WIDTH, dtype=np.float32)[None]
    for _ in range(rng.integer(1, 3)):
        half = rng.uniform(8, 38)
        centre = rng.uniform(0, WIDTH) + rng.uniform(0, 6) * rng.curve(HEIGHT, rng.uniform(20, 60))
        left = max(0, int(centre.min() - 2 * half))
        right = min(WIDTH, int(centre.max() + 2 * half) + 1)
        if right - left < 4:
            continue
        cover = np.clip(1.5 - np.abs(x[:, left:right] - centre[:, None]) / half, 0.0, 1.0)
        rough = 0.7 + rng.uniform(0.0, 0.6) * rng.texture("fine", width=right - left)
        rough = rough + rng.uniform(0.0, 0.5) * rng.texture("flame", width=right - left)
        log[:, left:right] += rng.uniform(-0.18, 0.28) * cover * np.clip(rough, 0.0, 2.0)


def add_surface(rng: Sampler, log: FloatImage) -> str:
    """Add every component that the strip happens to have; return the most striking: wave, scale, mottled or plain."""
    add_columns(rng, log)
    add_grain(rng, log)
    if rng.chance(0.55):
        add_sparkle(rng, log)
    if rng.chance(0.3):
        add_bands(rng, log)
    if rng.chance(0.25):
        add_water_lines(rng, log)
    kind = rng.choose(("plain", "scale", "wave", "mottled"), (0.34, 0.3, 0.24, 0.12))
    if kind == "scale":
        add_scale(rng, log)
        if rng.chance(0.5):
            add_scale(rng, log)
    elif kind == "wave":
        add_waves(rng, log)
    elif kind == "mottled":
        add_mottle(rng, log)
    return kind
