"""Things with a face: people, animals, robots."""

import colorsys
import math

import numpy as np

from zero123.data.meshes import Part
from zero123.data.procedural.solids import box, cylinder, dome, sphere, superquadric, tube
from zero123.data.procedural.vehicles import wheels
from zero123.data.procedural.workbench import (
    BLACK,
    BOTH,
    LAMP,
    RED,
    STEEL,
    WHITE,
    Coat,
    Point,
    Workbench,
    arc,
    rod,
)


def _eyes(center: Point, size: float, gap: float, iris: Coat) -> list[Part]:
    """Two eyes that look toward +x."""
    x, y, z = center
    parts = []
    for side in BOTH:
        ball, pupil = sphere(10).scaled(size, size, size), sphere(8).scaled(0.4 * size, size, size)
        parts.append(WHITE(ball.moved(x, y + side * gap, z)))
        parts.append(iris(pupil.scaled(1, 0.55, 0.55).moved(x + 0.4 * size, y + side * gap, z)))
    return parts


def character(bench: Workbench) -> list[Part]:
    """A person with a face, a hairdo or a hat, posed; perhaps with a stick and a rucksack."""
    skin = Coat(
        colorsys.hsv_to_rgb(
            bench.between(0.04, 0.09), bench.between(0.3, 0.6), bench.between(0.4, 0.95)
        )
    )
    if bench.chance(0.3):
        skin = bench.plain(4)
    top, bottom = bench.coat(0), bench.plain(1)
    legs, trunk, head = bench.between(0.2, 0.45), bench.between(0.3, 0.5), bench.between(0.25, 0.5)
    wide, neck = bench.between(0.25, 0.4), legs + trunk
    face = neck + 0.42 * head
    parts = [
        top(
            superquadric(0.6, 0.8)
            .scaled(0.65 * wide, wide, 1.15 * trunk)
            .moved(0, 0, legs + trunk / 2)
        ),
        bottom(superquadric(0.7, 0.8).scaled(0.66 * wide, wide, 0.25).moved(0, 0, legs + 0.05)),
        skin(sphere().scaled(0.9 * head, head * bench.between(0.8, 1.1), head).moved(0, 0, face)),
        *_eyes((0.4 * head, 0, face + 0.06 * head), 0.16 * head, 0.18 * head, bench.plain(2)),
        skin(
            sphere(8)
            .scaled(0.15 * head, 0.1 * head, 0.12 * head)
            .moved(0.46 * head, 0, face - 0.08 * head)
        ),
        RED(
            sphere(8).scaled(0.06, 0.3 * head, 0.06 * head).moved(0.4 * head, 0, face - 0.22 * head)
        ),
    ]
    for side in BOTH:
        foot = (0.02, side * 0.25 * wide, 0.05)
        parts.append(bottom(rod((0, side * 0.25 * wide, legs), foot, 0.3 * wide * 0.6)))
        parts.append(BLACK(dome(10).scaled(0.26, 0.15, 0.14).moved(0.05, foot[1], 0)))
        hand = (
            bench.between(-0.15, 0.3),
            side * (0.55 * wide + bench.between(0.02, 0.2)),
            legs + bench.between(0, 1.1) * trunk,
        )
        shoulder = (0.0, side * 0.48 * wide, legs + 0.88 * trunk)
        parts.append(top(rod(shoulder, hand, 0.055, 0.045)))
        parts.append(skin(sphere(10).scaled(0.12, 0.12, 0.12).moved(*hand)))
        if side == 1 and bench.chance(0.6):
            x, y, z = hand
            parts.append(bench.plain(3)(rod((x, y, z - 0.15), (x + 0.1, y, z + 0.35), 0.025)))
    hair = bench.plain(3)
    match bench.count(0, 3):
        case 0:  # hair, longer behind
            cap = dome(16).scaled(0.98 * head, 1.06 * head, 1.15 * head)
            parts.append(hair(cap.turned("y", -0.45).moved(-0.03, 0, face)))
        case 1:  # a hat
            parts.append(
                hair(
                    cylinder(0.7)
                    .scaled(0.7 * head, 0.7 * head, 0.5 * head)
                    .moved(0, 0, face + 0.6 * head)
                )
            )
            parts.append(
                hair(
                    cylinder().scaled(1.2 * head, 1.2 * head, 0.04).moved(0, 0, face + 0.37 * head)
                )
            )
        case 2:  # a cap with a peak
            parts.append(
                hair(dome(16).scaled(0.98 * head, 1.02 * head, head).moved(0, 0, face + 0.1 * head))
            )
            parts.append(
                hair(
                    cylinder()
                    .scaled(0.7 * head, 0.6 * head, 0.03)
                    .moved(0.45 * head, 0, face + 0.2 * head)
                )
            )
        case _:  # two ears
            for side in BOTH:
                parts.append(
                    skin(
                        sphere(10)
                        .scaled(0.12, 0.2, 0.3)
                        .moved(0, side * 0.3 * head, face + 0.55 * head)
                    )
                )
    if bench.chance(0.4):
        parts.append(
            bench.coat(2)(
                superquadric(0.4, 0.4)
                .scaled(0.18, 0.8 * wide, 0.8 * trunk)
                .moved(-0.4 * wide, 0, legs + 0.55 * trunk)
            )
        )
    return parts


def quadruped(bench: Workbench) -> list[Part]:
    """An animal on four legs, with ears, horns, spikes or a saddle."""
    long, girth, legs = bench.between(0.5, 0.9), bench.between(0.22, 0.4), bench.between(0.15, 0.5)
    coat, under = bench.coat(0), bench.plain(1)
    back = legs + 0.5 * girth
    head = bench.between(0.18, 0.32)
    reach, rise = bench.between(0.1, 0.35), bench.between(0.0, 0.5)
    hx, hz = 0.45 * long + reach, back + 0.1 + rise
    parts = [
        coat(superquadric(0.9, 0.9).scaled(1.1 * long, girth, girth).moved(0, 0, back)),
        coat(rod((0.38 * long, 0, back), (hx, 0, hz), 0.32 * girth, 0.3 * head)),
        coat(sphere().scaled(1.15 * head, 0.9 * head, 0.9 * head).moved(hx, 0, hz)),
        under(
            sphere(12)
            .scaled(0.7 * head, 0.55 * head, 0.5 * head)
            .moved(hx + 0.5 * head, 0, hz - 0.12 * head)
        ),
        BLACK(
            sphere(8)
            .scaled(0.15 * head, 0.25 * head, 0.15 * head)
            .moved(hx + 0.84 * head, 0, hz - 0.05 * head)
        ),
        *_eyes((hx + 0.4 * head, 0, hz + 0.2 * head), 0.17 * head, 0.28 * head, BLACK),
    ]
    for x in (-0.36 * long, 0.34 * long):
        for side in BOTH:
            y, step = side * 0.3 * girth, bench.between(-0.08, 0.08)
            parts.append(coat(rod((x, y, back), (x + step, y, 0.03), 0.2 * girth, 0.13 * girth)))
            parts.append(
                under(dome(8).scaled(0.36 * girth, 0.3 * girth, 0.3 * girth).moved(x + step, y, 0))
            )
    ear, horned = bench.between(0.3, 0.9) * head, bench.chance(0.25)
    for side in BOTH:
        shape = sphere(8) if bench.chance(0.5) else cylinder(0, 8)
        parts.append(
            under(
                shape.scaled(0.1, 0.35 * head, ear).moved(
                    hx - 0.1, side * 0.32 * head, hz + 0.5 * head
                )
            )
        )
        if horned:
            horn = arc(
                [
                    (hx, side * 0.2 * head, hz + 0.4 * head),
                    (hx, side * head, hz + 0.7 * head),
                    (hx + 0.1, side * 0.8 * head, hz + 1.4 * head),
                ]
            )
            parts.append(WHITE(tube(horn, np.linspace(0.04, 0.008, 9).tolist())))
    tip = (
        -0.5 * long - bench.between(0.1, 0.5),
        bench.between(-0.2, 0.2),
        back + bench.between(-0.3, 0.5),
    )
    tail = arc([(-0.5 * long, 0, back + 0.05), (-0.5 * long - 0.15, 0, back + 0.1), tip])
    parts.append(coat(tube(tail, np.linspace(0.05, bench.between(0.015, 0.07), 9).tolist())))
    if bench.chance(0.3):
        parts.append(
            bench.coat(2)(
                superquadric(0.5, 0.5)
                .scaled(0.4 * long, 1.1 * girth, 0.5 * girth)
                .moved(0, 0, back + 0.3 * girth)
            )
        )
    if bench.chance(0.3):
        for at in np.linspace(-0.4, 0.4, 7):
            spike = cylinder(0, 6).scaled(0.12, 0.04, 0.2)
            parts.append(bench.plain(3)(spike.moved(at * long, 0, back + 0.52 * girth)))
    return parts


def bird(bench: Workbench) -> list[Part]:
    """A bird with a beak, wings spread more or less, and a tail."""
    girth, legs, head = (
        bench.between(0.3, 0.45),
        bench.between(0.08, 0.35),
        bench.between(0.2, 0.32),
    )
    body, wing = bench.coat(0), bench.coat(1)
    middle, lean = legs + 0.5 * girth, bench.between(-0.7, 0.0)
    hx, hz = 0.3 * girth + bench.between(0, 0.12), middle + 0.5 * girth + bench.between(0, 0.3)
    beak = bench.between(0.15, 0.5) * head + 0.05
    parts = [
        body(sphere().scaled(1.4 * girth, girth, girth).turned("y", lean).moved(0, 0, middle)),
        bench.plain(2)(
            sphere(16)
            .scaled(girth, 0.8 * girth, 0.9 * girth)
            .moved(0.14 * girth, 0, middle - 0.08 * girth)
        ),
        body(rod((0.2 * girth, 0, middle), (hx, 0, hz), 0.3 * girth, 0.35 * head)),
        body(sphere().scaled(head, head, head).moved(hx, 0, hz)),
        Coat((0.95, 0.6, 0.1))(
            cylinder(0, 10)
            .turned("y", math.pi / 2)
            .scaled(2 * beak, 0.4 * head, 0.3 * head)
            .moved(hx + 0.4 * head + beak, 0, hz)
        ),
        *_eyes((hx + 0.25 * head, 0, hz + 0.15 * head), 0.2 * head, 0.32 * head, BLACK),
        wing(
            box()
            .tapered(1, 0.5)
            .scaled(0.5, bench.between(0.15, 0.4), 0.04)
            .turned("y", 0.4 - lean / 2)
            .moved(-0.85 * girth, 0, middle + 0.1)
        ),
    ]
    spread = bench.between(0.0, 1.3)
    for side in BOTH:
        feather = sphere(14).scaled(0.9 * girth, 0.08, 0.6 * girth).moved(0, 0, -0.3 * girth)
        turned = feather.turned("x", side * spread)
        parts.append(wing(turned.moved(-0.1 * girth, side * 0.48 * girth, middle + 0.25 * girth)))
        foot = (0.03, side * 0.2 * girth, 0.0)
        parts.append(LAMP(rod((0, side * 0.2 * girth, middle), foot, 0.02)))
        parts.append(LAMP(dome(6).scaled(0.16, 0.12, 0.05).moved(0.05, foot[1], 0)))
    if bench.chance(0.4):
        for step in range(3):
            plume = rod((hx, 0, hz + 0.4 * head), (hx - 0.08 * step, 0, hz + 0.8 * head), 0.02)
            parts.append(bench.plain(3)(plume))
    return parts


def robot(bench: Workbench) -> list[Part]:
    """A robot with a screen for a face and an aerial on its left."""
    body, joint, trim = bench.coat(0), STEEL, bench.plain(1)
    wide, trunk, head = bench.between(0.3, 0.5), bench.between(0.3, 0.5), bench.between(0.2, 0.35)
    legs = bench.between(0.15, 0.4)
    neck = legs + trunk
    shape = box() if bench.chance(0.6) else superquadric(0.4, 0.4)
    parts = [
        body(shape.scaled(0.7 * wide, wide, trunk).moved(0, 0, legs + trunk / 2)),
        bench.label()(
            box().scaled(0.03, 0.6 * wide, 0.5 * trunk).moved(0.35 * wide, 0, legs + 0.55 * trunk)
        ),
        joint(cylinder(segments=10).scaled(0.12, 0.12, 0.1).moved(0, 0, neck + 0.03)),
        trim(shape.scaled(head, 1.2 * head, head).moved(0, 0, neck + 0.05 + head / 2)),
        BLACK(box().scaled(0.03, head, 0.35 * head).moved(0.5 * head, 0, neck + 0.05 + 0.6 * head)),
        STEEL(rod((0, 0.3 * head, neck + head), (0, 0.4 * head, neck + 1.7 * head), 0.015)),
        RED(sphere(8).scaled(0.07, 0.07, 0.07).moved(0, 0.4 * head, neck + 1.7 * head)),
        bench.plain(2)(
            box().scaled(0.15, 0.6 * wide, 0.6 * trunk).moved(-0.38 * wide, 0, legs + 0.5 * trunk)
        ),
    ]
    for side in BOTH:
        eye = sphere(8).scaled(0.06, 0.25 * head, 0.25 * head)
        parts.append(LAMP(eye.moved(0.52 * head, side * 0.25 * head, neck + 0.05 + 0.6 * head)))
        parts.append(joint(rod((0, side * 0.25 * wide, legs), (0, side * 0.25 * wide, 0.05), 0.05)))
        parts.append(trim(box().scaled(0.24, 0.16, 0.1).moved(0.04, side * 0.25 * wide, 0.05)))
        shoulder = (0.0, side * 0.55 * wide, legs + 0.85 * trunk)
        elbow = (
            bench.between(-0.05, 0.2),
            side * (0.6 * wide + 0.1),
            legs + bench.between(0.3, 0.9) * trunk,
        )
        hand = (elbow[0] + bench.between(0.05, 0.2), elbow[1], elbow[2] + bench.between(-0.2, 0.3))
        parts.append(joint(rod(shoulder, elbow, 0.04)))
        parts.append(body(rod(elbow, hand, 0.055)))
        parts.append(bench.plain(3)(box().scaled(0.12, 0.12, 0.08).moved(*hand)))
    if bench.chance(0.4):
        parts += wheels(bench, [-0.1, 0.12], 0.3 * wide, 0.08, 0.06)
    return parts
