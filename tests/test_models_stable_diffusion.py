"""nbutils.models.stable_diffusion: the published sizes, and a pass through all of it."""

import torch

from nbutils.models.stable_diffusion import build_stable_diffusion_2
from nbutils.priors.text import build_tokenizer


def test_the_networks_have_the_published_numbers_of_parameters():
    tokenizer = build_tokenizer(["picture"])
    with torch.device("meta"):
        pipeline = build_stable_diffusion_2(tokenizer)
        found = {name: sum(p.numel() for p in getattr(pipeline, name).parameters()) for name in PUBLISHED}
        ids = torch.zeros(1, 77, dtype=torch.long)
        states = pipeline.text_encoder(ids).last_hidden_state
        noise = pipeline.unet(torch.zeros(1, 4, 64, 64), torch.zeros(1), states).sample
        decoded = pipeline.vae.decode(noise).sample
    assert found == PUBLISHED
    assert (states.shape, noise.shape, decoded.shape) == ((1, 77, 1024), (1, 4, 64, 64), (1, 3, 512, 512))


PUBLISHED = {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}
