"""A tiny decaying flow and a tiny channel as cases, and recipes that teach by their equations; not a test itself."""

from __future__ import annotations

from closures.training.recipe import Recipe

BOX = """title = "decaying box"
[grid.x]
kind = "fourier"
n = 8
length = "2 pi"
[grid.y]
kind = "fourier"
n = 8
length = "2 pi"
[grid.z]
kind = "fourier"
n = 8
length = "2 pi"
[flow]
nu = 0.05
[initial]
kind = "isotropic"
amplitude = 0.5
peak_wavenumber = 2.0
seed = 30103
[closure]
name = "smagorinsky"
c_s = 0.1
[time]
end = 1.0
"""
CHANNEL = """title = "channel"
[grid.x]
kind = "fourier"
n = 8
length = "2 pi"
[grid.y]
kind = "finite_volume"
n = 8
end = 2.0
stretching = 1.5
[grid.z]
kind = "fourier"
n = 8
length = "pi"
[flow]
nu = 0.005
[flow.forcing]
kind = "mass_flux"
bulk_velocity = 0.6666666666666666
[initial]
kind = "wall_turbulence"
seed = 30113
[closure]
name = "wale"
[time]
end = 1.0
"""
CASES = {"box": BOX, "channel": CHANNEL}
PERIODIC = {"box": [True, True, True], "channel": [True, False, True]}
INTERVAL = {"box": 0.05, "channel": 0.04}


def write_case(folder, kind, text=None):
    """A case folder."""
    path = folder / f"{kind}_case"
    path.mkdir(parents=True, exist_ok=True)
    (path / "case.toml").write_text(text or CASES[kind])
    return path


def recipe(folder, kind, **changes):
    """An FNO taught by the equations of a case; `changes` are updates of tables by name, None takes one out."""
    fields = {"trajectories": 4, "frames": 6, "spin_up": 0.2}
    tables = {
        "title": "taught by equations",
        "data": {"validation": 0.25},
        "operator": {"name": "fno", "width": 8, "modes": [3, 3, 3], "layers": 2, "hidden": 12},
        "loss": {"kind": "les_residual", "steps": 2},
        "equations": {"case": str(write_case(folder, kind)), "interval": INTERVAL[kind], "fields": fields},
        "optimiser": {"rate": 2e-2, "schedule": "one_cycle"},
        "loop": {"epochs": 3, "batch": 4, "device": "cpu"},
        "card": {"trained_on": f"a small {kind}"},
    }
    tables["operator"]["periodic"] = PERIODIC[kind]
    for name, change in changes.items():
        tables[name] = {**tables[name], **change} if isinstance(change, dict) else change
    kept = {name: table for name, table in tables.items() if table is not None}
    kept["equations"] = {k: v for k, v in kept["equations"].items() if v is not None}
    return Recipe.model_validate(kept)
