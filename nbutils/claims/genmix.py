"""What GenMix claims (Lee, Lee and Hong 2024), and what it leaves open."""

from collections.abc import Sequence

from nbutils.papers import Claim

GENMIX_GENERATORS = ("dcgan", "stylegan", "textual-inversion", "diffusion")


def genmix_claims() -> list[Claim]:
    """Return the claims of GenMix on its Table 1, as checked against that table."""
    gains = [
        Claim("genmix", f"GenMix ({name}) beats {name} alone", f"genmix({name})", (name,), metric)
        for name in GENMIX_GENERATORS
        for metric in ("accuracy", "macro_f1")
    ]
    mixup = [
        Claim("genmix", "MixUp beats real images alone", "mixup", ("real",), metric)
        for metric in ("accuracy", "macro_f1")
    ]
    minor = Claim(
        "genmix",
        "MixUp favours major classes: the rarest class loses",
        "mixup",
        ("real",),
        "rarest_sensitivity",
        "less",
        printed_metric="sensitivity:hemangioma",
    )
    useless = [
        Claim("genmix", f"{name} alone does not help", name, ("real",), metric, "no gain")
        for name in ("dcgan", "textual-inversion")
        for metric in ("accuracy", "macro_f1")
    ]
    others = tuple(name for name in GENMIX_GENERATORS if name != "diffusion")
    best_alone = Claim("genmix", "Diffusion has the best F1 of the generators alone", "diffusion", others, "macro_f1")
    rivals = tuple(f"genmix({name})" for name in GENMIX_GENERATORS if name != "textual-inversion")
    best = [
        Claim("genmix", "GenMix (textual-inversion) is best", "genmix(textual-inversion)", rivals, metric)
        for metric in ("accuracy", "macro_f1")
    ]
    return [*gains, *mixup, minor, *useless, best_alone, *best]


def genmix_questions(methods: Sequence[str]) -> list[Claim]:
    """Return what GenMix leaves open: does any of these methods beat real images alone?"""
    return [Claim(None, f"Does {name} beat real images alone?", name, ("real",), "macro_f1") for name in methods]


def genmix_feature_questions(generators: Sequence[str]) -> list[Claim]:
    """Return what GenMix leaves open: do its images spread further than mixtures of real images do?"""
    return [
        Claim(None, f"GenMix ({name}) against MixUp: {metric}", f"genmix({name})", ("mixup",), metric)
        for name in generators
        for metric in ("recall", "boundary")
    ]


def genmix_feature_claims() -> list[Claim]:
    """Return the claims of GenMix on its Fig. 4, which the text makes in words, as measurable statements."""
    boundary = [
        Claim("genmix", f"GenMix ({name}) lies at class boundaries more often", f"genmix({name})", (name,), "boundary")
        for name in ("stylegan", "textual-inversion", "diffusion")
    ]
    return [
        Claim(
            "genmix", "StyleGAN collapses: lower recall than diffusion", "stylegan", ("diffusion",), "recall", "less"
        ),
        Claim("genmix", "GenMix spreads StyleGAN's images: recall", "genmix(stylegan)", ("stylegan",), "recall"),
        Claim(
            "genmix",
            "Textual inversion shifts the mean",
            "textual-inversion",
            ("diffusion",),
            "mean_shift",
            relative=True,
        ),
        *boundary,
    ]
