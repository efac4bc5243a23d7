"""Drawn slices that look like computed tomography of the chest, as four hospitals export them.

No image set may be shipped, so these are generated: body, ribs, spine, heart, two lungs with
vessels, and in half of the patients a solid mass of 4 to 7 cm, in Hounsfield units, with noise
and with a scanner of its own at each hospital. They show that image training works; they are no
patients, and nothing clinical follows from a score on them.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Size = float | Floats
SEED = 20251122
PIXELS = 32
FINE = 2  # each pixel is the mean of FINE x FINE drawn ones: partial volume, as in a scanner
AIR, LUNG, FAT, TISSUE, BLOOD, BONE = -1000.0, -840.0, -95.0, 40.0, 60.0, 420.0
SLICE_DISTANCE = 0.05  # lengths are in halves of the image: 1.0 is about 18 cm
MASS_RADIUS = (0.12, 0.19)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """One hospital of the demo: how many patients, what share has a mass, and its scanner."""

    hospital: str
    patients: int
    with_mass: float
    offset_hu: float
    noise_hu: float
    field_of_view: float


SCANNERS = (
    Scanner(
        hospital="university",
        patients=200,
        with_mass=0.55,
        offset_hu=0.0,
        noise_hu=25.0,
        field_of_view=1.0,
    ),
    Scanner(
        hospital="northside",
        patients=180,
        with_mass=0.4,
        offset_hu=12.0,
        noise_hu=40.0,
        field_of_view=1.06,
    ),
    Scanner(
        hospital="harbour",
        patients=160,
        with_mass=0.5,
        offset_hu=-15.0,
        noise_hu=30.0,
        field_of_view=0.97,
    ),
    Scanner(
        hospital="lakeside",
        patients=140,
        with_mass=0.45,
        offset_hu=6.0,
        noise_hu=55.0,
        field_of_view=1.02,
    ),
)


def write_ct(folder: Path) -> None:
    """Write NAME.csv and NAME/*.npy for each hospital into `folder`, the same at every call."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, scanner in enumerate(SCANNERS):
        _write_hospital(folder, scanner, np.random.default_rng([SEED, index]))


def draw_patient(rng: np.random.Generator, scanner: Scanner, *, mass: bool) -> Floats:
    """3 to 6 neighbouring slices of one person in Hounsfield units, [slices, 32, 32].

    The front of the body is at the top and its left side is at the right, as radiologists look.
    """
    canvas = _Canvas.blank(int(rng.integers(3, 7)), rng, scanner.field_of_view)
    build = _draw_body(canvas, rng)
    _draw_lungs(canvas, rng, build)
    _draw_vessels(canvas, rng, build)
    if mass:
        _draw_mass(canvas, rng, build)
    _draw_middle(canvas, rng, build)
    slices = canvas.pixels()
    return slices + scanner.offset_hu + _noise(slices.shape, rng, scanner.noise_hu)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """How a person is built: half axes of the chest and of each lung, and the lungs' density."""

    width: float
    depth: float
    lung_width: float
    lung_depth: float
    density_hu: float


@dataclass(frozen=True, slots=True)
class _Canvas:
    """Fine pixels of all slices, [slices, y, x]; shapes are painted one over the other."""

    hu: Floats
    x: Floats
    y: Floats
    z: Floats
    lung: Floats

    @classmethod
    def blank(cls, slices: int, rng: np.random.Generator, field_of_view: float) -> "_Canvas":
        side = PIXELS * FINE
        axis = ((np.arange(side) + 0.5) / side * 2 - 1) * field_of_view
        shift = rng.normal(0, 0.03, 2)
        z = (np.arange(slices, dtype=np.float64) - (slices - 1) / 2) * SLICE_DISTANCE
        return cls(
            hu=np.full((slices, side, side), AIR),
            x=(axis + shift[0])[None, None, :],
            y=(axis + shift[1])[None, :, None],
            z=z[:, None, None],
            lung=np.zeros((slices, side, side)),
        )

    def paint(self, inside: Floats, hu: float | Floats) -> None:
        """Cover by `inside` (0 to 1) with density `hu`."""
        self.hu[:] += (hu - self.hu) * inside

    def ellipse(
        self, centre: tuple[float, float], axes: tuple[Size, Size], power: float = 2.0
    ) -> Floats:
        """1 inside, 0 outside, with an edge of about one fine pixel (a superellipse)."""
        u = np.abs((self.x - centre[0]) / axes[0]) ** power
        v = np.abs((self.y - centre[1]) / axes[1]) ** power
        slope = np.minimum(axes[0], axes[1]) * PIXELS * FINE / 2
        inside: Floats = np.clip((1 - (u + v) ** (1 / power)) * slope + 0.5, 0, 1)
        return inside

    def spots(self, x: Floats, y: Floats, size: Floats) -> Floats:
        """Sum of soft round spots, at most 1; `x` and `y` are [spots, slices], `size` [spots]."""
        along_x = np.exp(-0.5 * ((self.x[0] - x[..., None]) / size[:, None, None]) ** 2)
        along_y = np.exp(-0.5 * ((self.y[0, :, 0] - y[..., None]) / size[:, None, None]) ** 2)
        inside: Floats = np.minimum(np.einsum("nsy,nsx->syx", along_y, along_x), 1.0)
        return inside

    def pixels(self) -> Floats:
        """Mean over FINE x FINE fine pixels."""
        shape = (len(self.hu), PIXELS, FINE, PIXELS, FINE)
        means: Floats = self.hu.reshape(shape).mean(axis=(2, 4))
        return means


def _draw_body(canvas: _Canvas, rng: np.random.Generator) -> _Build:
    width, depth = rng.normal(0.88, 0.03), rng.normal(0.63, 0.03)
    fat = abs(rng.normal(0.05, 0.02)) + 0.02
    canvas.paint(canvas.ellipse((0, 0.86), (0.8, 0.025)), -600.0)  # the table
    canvas.paint(canvas.ellipse((0, 0.02), (width, depth), 2.3), FAT)
    canvas.paint(canvas.ellipse((0, 0.02), (width - fat, depth - fat), 2.3), TISSUE)
    angles = np.tile(np.linspace(-1.1, 1.1, 6), 2) + rng.normal(0, 0.06, 12)
    x = np.repeat([-1.0, 1.0], 6) * np.cos(angles) * (width - fat - 0.06)
    y = np.sin(angles) * (depth - fat - 0.06) + 0.02
    canvas.paint(canvas.spots(x[:, None], y[:, None], np.full(12, 0.022)), BONE)  # ribs
    return _Build(
        width=width,
        depth=depth,
        lung_width=(width - fat) * rng.normal(0.36, 0.012),
        lung_depth=(depth - fat) * rng.normal(0.78, 0.02),
        density_hu=LUNG + rng.normal(0, 25),
    )


def _lung_centre(build: _Build, side: float) -> tuple[float, float]:
    return side * build.lung_width * 1.32, 0.02


def _draw_lungs(canvas: _Canvas, rng: np.random.Generator, build: _Build) -> None:
    gravity = build.density_hu + 60 * canvas.y  # the back of a lying person's lung is denser
    for side in (-1.0, 1.0):
        scale = 1 + rng.normal(0, 0.03) + 0.4 * canvas.z
        axes = (build.lung_width * scale, build.lung_depth * scale)
        lung = canvas.ellipse(_lung_centre(build, side), axes, 2.4)
        canvas.paint(lung, gravity)
        canvas.lung[:] = np.maximum(canvas.lung, lung)


def _draw_vessels(canvas: _Canvas, rng: np.random.Generator, build: _Build) -> None:
    for side in (-1.0, 1.0):
        centre = _lung_centre(build, side)
        count = int(rng.integers(6, 10))
        angle, reach = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.1, 0.85, count)
        drift = rng.normal(0, 0.5, (2, count, 1)) * canvas.z[:, 0, 0]
        x = (centre[0] + build.lung_width * reach * np.cos(angle))[:, None] + drift[0]
        y = (centre[1] + build.lung_depth * reach * np.sin(angle))[:, None] + drift[1]
        inside = canvas.spots(x, y, rng.uniform(0.012, 0.03, count))
        canvas.paint(inside * canvas.lung * rng.uniform(0.5, 0.8), BLOOD)
        hilum = (centre[0] - side * build.lung_width * 0.75, 0.02)
        canvas.paint(canvas.ellipse(hilum, (0.07, 0.1)) * 0.8, BLOOD)


def _draw_mass(canvas: _Canvas, rng: np.random.Generator, build: _Build) -> None:
    side = float(rng.choice([-1.0, 1.0]))
    centre = _lung_centre(build, side)
    x = centre[0] + side * build.lung_width * rng.uniform(-0.1, 0.5)  # not behind the heart
    y = centre[1] + build.lung_depth * rng.uniform(-0.55, 0.6)
    radius, height = rng.uniform(*MASS_RADIUS), rng.normal(0, 0.02)
    lobes = 1 + 0.12 * np.sin(3 * np.arctan2(canvas.y - y, canvas.x - x) + rng.uniform(0, 6))
    distance = np.sqrt((canvas.x - x) ** 2 + (canvas.y - y) ** 2 + (canvas.z - height) ** 2)
    inside = np.clip((radius * lobes - distance) * PIXELS * FINE / 2 + 0.5, 0, 1) * canvas.lung
    canvas.paint(inside, TISSUE + rng.normal(0, 15))


def _draw_middle(canvas: _Canvas, rng: np.random.Generator, build: _Build) -> None:
    heart = (rng.normal(0.1, 0.02), rng.normal(-0.16, 0.02))
    size = rng.normal(0.27, 0.02)
    canvas.paint(canvas.ellipse(heart, (size + 0.2 * canvas.z, size * 0.8 + 0.2 * canvas.z)), BLOOD)
    spine = (0.0, build.depth * 0.58)
    canvas.paint(canvas.ellipse(spine, (0.13, 0.11)), BONE * 0.7)
    canvas.paint(canvas.ellipse((0.0, spine[1] + 0.14), (0.05, 0.04)), TISSUE)  # spinal canal
    canvas.paint(canvas.ellipse((0.13, spine[1] - 0.12), (0.07, 0.07)), BLOOD)  # aorta
    canvas.paint(canvas.ellipse((0.0, spine[1] - 0.2), (0.035, 0.035)), -950.0)  # airway


def _noise(shape: tuple[int, ...], rng: np.random.Generator, noise_hu: float) -> Floats:
    white = rng.normal(0, 1, shape)
    # a reconstruction kernel correlates neighbours; the sum keeps the standard deviation at 1
    smooth = white + 0.5 * np.roll(white, 1, axis=1) + 0.5 * np.roll(white, 1, axis=2)
    noise: Floats = noise_hu * smooth / np.sqrt(1.5)
    return noise


def _write_hospital(folder: Path, scanner: Scanner, rng: np.random.Generator) -> None:
    (folder / scanner.hospital).mkdir(exist_ok=True)
    ill = rng.permutation(scanner.patients) < round(scanner.patients * scanner.with_mass)
    with (folder / f"{scanner.hospital}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["patient", "slice", "mass"])
        for number, sick in enumerate(ill.tolist(), start=1):
            slices = draw_patient(rng, scanner, mass=sick)
            for place, pixels in enumerate(np.clip(slices, -1024, 3071)):
                name = f"{scanner.hospital}/{number:04d}-{place}.npy"
                np.save(folder / name, np.rint(pixels).astype(np.int16), allow_pickle=False)
                writer.writerow([f"P{number:04d}", name, "yes" if sick else "no"])
