"""What `skr.py` measures: families by size, the methods for each, and two families of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array, diags_array

from closures.linear_families.darcy import Darcy
from closures.linear_families.family import Family, Parameters
from closures.linear_families.recipe import parse_recipe
from closures.linear_families.sequences.methods import Method, method
from closures.linear_families.sequences.system import System

SEED = 1_618_033
INDEFINITE = {"wave_number": [20.0, 22.0], "medium": "wave_number"}
NARROW = INDEFINITE | {"wave_number": [20.0, 20.2], "media": 1}
SQUARES = {"1e4": [100, 100], "4e4": [200, 200], "1e5": [316, 316], "1e6": [1000, 1000]}
CUBES = {"1e4": [22, 22, 22], "1e5": [46, 46, 46], "1e6": [100, 100, 100]}
BLOCKS = {"1e4": [80, 128], "1e5": [240, 384], "1e6": [1000, 1000]}
DEEP_BLOCKS = {"1e5": [40, 64, 40], "1e6": [80, 128, 96]}
POOL = {"1e4": 60, "4e4": 60, "1e5": 24, "1e6": 8}  # samples among which a path is sorted
PATIENCE = {"1e4": 3.0, "4e4": 20.0, "1e5": 4.0, "1e6": 6.0}  # processor seconds, then no further sample
LEARNING = 60.0  # instead, where what is recycled takes some samples to be worth it

WEAK = ("gmres", "gmres+jacobi", "gmres+sor", "gmres+icc", "skr", "skr+jacobi", "skr+sor", "skr+icc", "cg", "cg+fft")
SMALL = ("direct", "cholesky", "cg", "cg+icc", "gamg", "cg+fft", "gmres", "fresh", "gcrodr", "skr", "skr+icc")
SMALL += ("skr+fft", "rcg", "rcg+icc", "rcg+fft", "cg+fft+guess")
MIDDLE = ("direct", "cholesky", "cg+icc", "gamg", "cg+fft", "skr+icc", "rcg+icc", "rcg+fft")
LARGE = ("cg+icc", "gamg", "cg+fft", "rcg+icc", "rcg+fft")
ONE_MATRIX = ("direct", "cholesky", "cg+icc", "gamg", "skr+icc", "rcg+icc", "rcg+gamg", "cg+icc+guess")
ONE_MATRIX += ("direct+guess", "cg+jacobi+guess")
WAVES = (
    "direct",
    "gmres+fft",
    "fresh+fft",
    "fresh+fft(80,40)",
    "gcrodr+fft",
    "skr+fft",
    "fresh+fft+guess",
    "direct+guess",
)
FAR = 10.0  # times the fastest on one rank: slower methods are not run on two
FILL = "not run: its factors would fill more than the 24 GB of this machine"


class Case(NamedTuple):
    """A family of one size: its table in a recipe, methods, and the largest number of samples a rank solves."""

    family: dict[str, Any]
    methods: tuple[str, ...]
    samples: int


def cases() -> dict[str, Case]:
    """All of them, small ones first."""
    found: dict[str, Case] = {}

    def add(name: str, family: dict[str, Any], methods: tuple[str, ...], samples: int) -> None:
        found[name] = Case(family, methods, samples)

    lists = {"1e4": (SMALL, 32), "1e5": (MIDDLE, 8), "1e6": (LARGE, 3)}
    for size, (methods, samples) in lists.items():
        for dims, shape in (("2d", SQUARES[size]), ("3d", CUBES[size])):
            if (dims, size) not in (("3d", "1e4"), ("2d", "1e6")):
                add(f"darcy-{dims}-{size}", {"kind": "darcy", "shape": shape}, methods, samples)
        dims, shape = ("3d", CUBES[size]) if size == "1e6" else ("2d", SQUARES[size])
        add(f"helmholtz-{dims}-{size}", {"kind": "helmholtz", "shape": shape}, methods, samples)
        shorter = ("direct", "cholesky", "cg+icc", "gamg", "cg+fft", "skr+icc", "rcg+icc", "cg+icc+guess")
        shorter = LARGE if size == "1e6" else shorter
        add(f"poisson-{dims}-{size}", {"kind": "poisson", "shape": shape}, shorter, 40 if size == "1e4" else 5)
        blocks = [("2d", BLOCKS[size])] if size != "1e6" else []
        for dims, shape in [*blocks, *([("3d", DEEP_BLOCKS[size])] if size in DEEP_BLOCKS else [])]:
            add(f"thermal-{dims}-{size}", {"kind": "thermal", "shape": shape}, ONE_MATRIX, 2 * samples)
        for dims, shape in (("2d", SQUARES[size]), ("3d", CUBES[size])):
            wave = {"kind": "helmholtz", "shape": shape} | INDEFINITE
            if (dims, size) != ("2d", "1e6"):
                add(f"indefinite-{dims}-{size}", wave, WAVES[:-2], 2 if size == "1e6" else samples)
            if size != "1e6":
                add(f"sweep-{dims}-{size}", wave | {"media": 1}, WAVES, 60)
            if dims == "3d":
                add(f"narrow-{dims}-{size}", wave | NARROW, WAVES, 16)
    for dims, shape in (("2d", SQUARES["1e5"]), ("3d", CUBES["1e5"])):
        methods = ("direct", "cholesky", "cg+icc", "gamg", "cg+fft", "rcg+icc", "rcg+gamg", "skr+icc")
        add(f"inclusions-{dims}-1e5", {"kind": "darcy", "shape": shape}, methods, 12)
    for kind, size in (("darcy", "1e4"), ("darcy", "4e4"), ("released", "1e4"), ("helmholtz", "1e4")):
        table = {"kind": "darcy" if kind == "released" else kind, "shape": SQUARES[size]}
        names = WEAK
        if kind == "released":  # not symmetric
            names = tuple(n.replace("icc", "ilu") for n in WEAK if not n.startswith("cg"))
        add(f"weak-{kind}-{size}", table, names, 24 if size == "1e4" else 16)
    add("weak-thermal-1e4", {"kind": "thermal", "shape": BLOCKS["1e4"]}, WEAK[:-1], 24)
    return found


def left_out(case: str, name: str) -> str | None:
    """Why a cell is not run, if it is not."""
    if "1e6" in case and name in ("direct", "cholesky", "direct+guess"):
        return FILL
    if "3d-1e5" in case and name == "cholesky":
        return "not run: fills like direct"
    fills = "3d" in case and "1e4" not in case and name.startswith("direct")
    if fills and not case.startswith(("inclusions", "thermal", "indefinite")):
        return "not run: see inclusions and indefinite"
    if "1e6" in case and (name in ("gmres+fft", "gcrodr+fft") or case.startswith(("indefinite", "narrow"))):
        return "not run: minutes a system, see 1e5"
    return None


class Released(Darcy):
    """Darcy as the released generator of Wang et al. assembles it: the Laplacian times K at the column node, its lower
    outer diagonal two entries off, which is neither symmetric nor a discretisation of Darcy's law.
    """

    def system(self, parameters: Parameters) -> System:
        """Not symmetric."""
        n, k = self.volumes.shape[0], parameters["permeability"].ravel()
        side = np.ones(n * n - 1)
        side[n - 1 :: n] = 0
        bands = [4 * k, -side * k[1:], -side * k[:-1], -k[n:], -np.roll(k, 2)[:-n]]
        matrix = csr_array(diags_array(bands, offsets=[0, 1, -1, n, -n]).tocsr())
        matrix.sort_indices()
        return System(matrix, np.ones(n * n), definite=False)


class Inclusions(Darcy):
    """Darcy with sixteen well-conducting balls, 10^4 times the background, at places that all samples share: sixteen
    small eigenvalues of the matrix scaled by its diagonal, far from the rest.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        rng, self.inside = np.random.default_rng(SEED), np.zeros(shape, bool)
        for middle in rng.uniform(0.1, 0.9, (16, len(shape))):
            square = sum((x - c) ** 2 for x, c in zip(self.volumes.centres(), middle, strict=True))
            self.inside |= square < 0.05**2

    def draw(self, rng: np.random.Generator) -> Parameters:
        """K with the balls in it."""
        k = super().draw(rng)["permeability"]
        return {"permeability": np.where(self.inside, 1e4 * k, k)}


def family_of(case: str) -> Family:
    """The family of a case."""
    table = cases()[case].family
    for word, kind in (("released", Released), ("inclusions", Inclusions)):
        if word in case:
            return kind(tuple(table["shape"]))
    return parse_recipe({"title": case, "seed": SEED, "samples": 1, "family": table}, case).family.build()


def named(name: str) -> Method:
    """A method by name, ``fresh+fft(80,40)`` with the sizes of GCRO-DR(80, 40) instead of (40, 20)."""
    plain, _, sizes = name.partition("(")
    if not sizes:
        return method(plain)
    subspace, recycle = map(int, sizes.rstrip(")").split(","))
    return replace(method(plain), subspace=subspace, recycle=recycle)
