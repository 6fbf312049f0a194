import torch

from zero123.models import encode_latents
from zero123.training.autoencoder import LATENT_SCALE, principal_patterns, write_encoder
from zero123.training.mini import LATENT_CHANNELS, mini_autoencoder


def test_the_written_encoder_measures_the_patterns():
    torch.manual_seed(0)
    pictures = torch.rand(4, 3, 32, 48)
    patterns, mean, std = principal_patterns(pictures, LATENT_CHANNELS)
    vae = mini_autoencoder()
    write_encoder(vae, patterns, mean, std)
    patches = torch.nn.functional.unfold(1 - pictures, 8, stride=8).transpose(1, 2)
    white = (patches @ patterns - mean) / std
    expected = white * 2 * (std / std[0]).sqrt() / LATENT_SCALE
    latents = encode_latents(vae, pictures).flatten(2).transpose(1, 2)
    assert (latents - expected).abs().max() < 1e-4


def test_patterns_are_orthonormal_and_keep_the_mean_colour():
    pictures = torch.rand(4, 3, 32, 32)
    patterns, _, _ = principal_patterns(pictures, 8)
    assert (patterns.T @ patterns - torch.eye(8)).abs().max() < 1e-4
    patches = torch.nn.functional.unfold(1 - pictures, 8, stride=8).transpose(1, 2).flatten(0, 1)
    kept = patches @ patterns @ patterns.T
    colours = [p.unflatten(1, (3, 64)).mean(2) for p in (patches, kept)]
    assert (colours[0] - colours[1]).abs().max() < 1e-4
