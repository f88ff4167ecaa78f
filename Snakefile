"""The graph of papermill runs: which notebook, which parameters, which outputs.

A run is repeated when its notebook or the package has changed since; what it trained is then found in the cache.

    snakemake --cores 2 figures                                   every notebook at demo scale, default data
    snakemake --cores 2 evidence                                  the long runs behind the verdicts
    snakemake --cores 2 matrix --config notebooks=30_genmix_classification \
        scale=demo datasets=phantom:liver,folder:/my/images seeds=0,10,20

A failed run leaves <notebook>.failed.ipynb in its folder. On a cluster: the same with --executor slurm.
"""

import sys
from pathlib import Path

from nbutils.dataset_names import folder_name

NOTEBOOKS = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
SEEDS = "-p num_seeds 12 -p num_generator_seeds 3"
# as in the paper, images in each epoch, and as in its published code, a quarter as many as real ones
ONLINE = f"{SEEDS} -p refresh 1 -p num_synthetic 350"
EVIDENCE = {
    "02_prior_or_scratch": SEEDS,
    "10_mage_generation": "-p num_generator_seeds 3",
    "11_mage_classification": SEEDS,
    "20_iois_comparison": ONLINE,
    "21_iois_classes_and_neighbours": ONLINE,
    "22_iois_cost_and_leak": f"{ONLINE} -p num_sweep_seeds 3",
    "30_genmix_classification": SEEDS,
    "31_genmix_tsne": SEEDS,
    "40_ti_tuning": "-p num_seeds 10",
    "41_ti_classification": f"{SEEDS} -p num_cases 200",
    "42_ti_composition": "-p num_seeds 3 -p num_images 32",
    "43_ti_inpainting": "-p num_seeds 3 -p num_images 32",
}


def asked(name, default):
    """Return a list from --config name=a,b,c."""
    return str(config.get(name, default)).split(",")


DATASETS = {folder_name(name): name for name in asked("datasets", "phantom:liver")}
RUN = f"NBUTILS_THREADS={{threads}} {sys.executable} -m nbutils run {{wildcards.notebook}} "


CODE = [str(path) for path in sorted(Path("nbutils").rglob("*")) if path.suffix in (".py", ".mplstyle")]
NOTEBOOK = "notebooks/{notebook}.ipynb"


wildcard_constraints:
    notebook="|".join(NOTEBOOKS),
    scale="smoke|demo|gpu|paper",


rule figures:
    input:
        expand("runs/done/{notebook}-demo", notebook=NOTEBOOKS),


rule evidence:
    input:
        expand("runs/done/{notebook}-evidence", notebook=EVIDENCE),


rule matrix:
    input:
        expand(
            "runs/{notebook}/{scale}/{dataset}/seed{seed}/run.json",
            notebook=asked("notebooks", "30_genmix_classification"),
            scale=asked("scale", "demo"),
            dataset=list(DATASETS),
            seed=asked("seeds", "0"),
        ),


rule figure_run:
    input:
        NOTEBOOK,
        CODE,
    output:
        touch("runs/done/{notebook}-{scale}"),
    threads: 2
    shell:
        RUN + "-p scale {wildcards.scale}"


rule evidence_run:
    input:
        NOTEBOOK,
        CODE,
    output:
        touch("runs/done/{notebook}-evidence"),
    params:
        seeds=lambda wildcards: EVIDENCE[wildcards.notebook],
    threads: 2
    shell:
        RUN + "-p scale demo {params.seeds} -p output_dir figures/{wildcards.notebook}/evidence"


rule matrix_run:
    input:
        NOTEBOOK,
        CODE,
    output:
        "runs/{notebook}/{scale}/{dataset}/seed{seed}/run.json",
    params:
        dataset=lambda wildcards: DATASETS[wildcards.dataset],
    threads: 2
    shell:
        RUN + "-p scale {wildcards.scale} -p dataset '{params.dataset}' -p seed {wildcards.seed} "
        "-p output_dir runs/{wildcards.notebook}/{wildcards.scale}/{wildcards.dataset}/seed{wildcards.seed}"
