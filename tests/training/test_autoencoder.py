import torch

from zero123.models import decode_latents, encode_latents
from zero123.training.autoencoder import (
    LATENT_SCALE,
    PatchEncoder,
    start_decoder,
    write_encoder,
)
from zero123.training.mini import LATENT_CHANNELS, mini_autoencoder


def test_the_written_encoder_measures_the_patterns():
    torch.manual_seed(0)
    pictures = torch.rand(4, 3, 32, 48)
    encoder = PatchEncoder.fit(pictures, LATENT_CHANNELS)
    vae = mini_autoencoder()
    write_encoder(vae, encoder)
    assert (encode_latents(vae, pictures) - encoder.encode(pictures)).abs().max() < 1e-4


def test_a_written_encoder_is_read_back():
    torch.manual_seed(0)
    pictures = torch.rand(4, 3, 32, 48)
    written = PatchEncoder.fit(pictures, LATENT_CHANNELS)
    vae = mini_autoencoder()
    write_encoder(vae, written)
    read = PatchEncoder.read(vae)
    assert (read.encode(pictures) - encode_latents(vae, pictures)).abs().max() < 1e-4
    assert (read.patterns - written.patterns).abs().max() < 1e-5


def test_latents_are_centred_and_the_first_colour_is_the_loudest():
    torch.manual_seed(0)
    pictures = torch.rand(16, 3, 4, 4).repeat_interleave(8, -1).repeat_interleave(8, -2)
    pictures = 0.9 * pictures + 0.1 * torch.rand(16, 3, 32, 32)
    latents = PatchEncoder.fit(pictures, 8).encode(pictures)
    spread = latents.std((0, 2, 3)) * LATENT_SCALE
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert abs(spread[0] - 2) < 0.1
    assert (spread[0] > spread[3:]).all()


def test_patterns_are_orthonormal_and_keep_the_mean_colour():
    pictures = torch.rand(4, 3, 32, 32)
    patterns = PatchEncoder.fit(pictures, 8).patterns
    assert (patterns.T @ patterns - torch.eye(8)).abs().max() < 1e-4
    patches = torch.nn.functional.unfold(1 - pictures, 8, stride=8).transpose(1, 2).flatten(0, 1)
    kept = patches @ patterns @ patterns.T
    colours = [p.unflatten(1, (3, 64)).mean(2) for p in (patches, kept)]
    assert (colours[0] - colours[1]).abs().max() < 1e-4


def test_an_untrained_decoder_already_shows_colours():
    torch.manual_seed(0)
    pictures = torch.rand(16, 3, 1, 1).expand(-1, -1, 32, 32)
    encoder = PatchEncoder.fit(pictures + 0.05 * torch.rand(16, 3, 32, 32), LATENT_CHANNELS)
    vae = mini_autoencoder()
    write_encoder(vae, encoder)
    start_decoder(vae, encoder)
    seen = decode_latents(vae, encode_latents(vae, pictures) * vae.config.scaling_factor)
    assert (seen - pictures)[..., 8:24, 8:24].abs().mean() < 0.1
