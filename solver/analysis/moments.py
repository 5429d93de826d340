"""Names of the means that statistics keep, in their order: what each is, `solver.observers.statistics` says."""

NAMES = (
    *("u", "v", "w", "p"),
    *("uu", "vv", "ww", "uv", "uw", "vw"),
    *("tau_xx", "tau_yy", "tau_zz", "tau_xy", "tau_xz", "tau_yz", "nu_t", "eps_sgs"),
    *("dudx_dudx", "dvdx_dvdx", "dwdx_dwdx", "pv", "uuv", "vvv", "wwv", "tau_u", "flux_xy"),
    *("sgs_flux_xy", "force_x", "wall_flux_xy", "wall_flux_xz"),
)
INDEX = {name: i for i, name in enumerate(NAMES)}
