"""The networks of `graph_coverage.py` and how each is built: torchvision's, and one to four of every family of timm.

Definitions only: weights are random, of a seed. Weights that start as all one number (scales of norms and of layers,
zero biases) are drawn anew, or half of a network would be invisible to a comparison of values. Inputs are as small as
the network takes them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from _torchvision import import_torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

#: of timm, by family (its modules), small members first
_FAMILIES = """
beit_base_patch16_224 beitv2_base_patch16_224
botnet26t_256 eca_halonext26ts haloregnetz_b lambda_resnet26t lamhalobotnet50ts_256
bat_resnext26ts gcresnet33ts gernet_s mobileone_s0 regnetz_b16 regnetz_b16_evos repvgg_a0 repvgg_b1g4 resnet50_clip
resnet51q seresnext26ts test_byobnet
cait_xxs24_224
coat_lite_tiny coat_tiny
convit_tiny
convmixer_768_32
convnext_atto convnext_atto_rms convnextv2_atto convnext_tiny test_convnext
cpubone_nano cpubone_b1_dwnorm
crossvit_9_240 crossvit_9_dagger_240
csatv2
cs3darknet_s cs3darknet_focus_s cs3se_edgenet_x cspdarknet53 cspresnext50 darknet17 sedarknet21
cspnext_tiny
davit_tiny davit_base_fl
deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224
densenet121 densenetblur121d
dla34 dla46x_c dla60_res2net
dpn48b dpn68
edgenext_xx_small edgenext_small_rw
efficientformer_l1
efficientformerv2_s0
efficientnet_b0 efficientnet_blur_b0 efficientnet_lite0 efficientnetv2_rw_t gc_efficientnetv2_rw_t fbnetc_100 mixnet_s
mnasnet_small mobilenetv1_100 mobilenetv2_035 mobilenet_edgetpu_v2_xs semnasnet_050 spnasnet_100 tinynet_e
tf_efficientnetv2_b0 test_efficientnet_gn test_efficientnet_ln test_efficientnet_evos
efficientvim_m1
efficientvit_b0 efficientvit_l1
efficientvit_m0
eva02_tiny_patch14_224 vit_tiny_patch16_dinov3_qkvb vit_small_patch16_rope_224 vit_pe_core_tiny_patch16_384
fasternet_t0
fastvit_t8 fastvit_mci0
focalnet_tiny_srf
gcvit_xxtiny
ghostnet_050 ghostnetv2_100 ghostnetv3_050
hardcorenas_a
hgnet_tiny hgnetv2_b0
hiera_tiny_224
sam2_hiera_tiny
hrnet_w18_small
iformer_t
inception_next_atto
inception_resnet_v2
inception_v3
inception_v4
lcnetv2_small
levit_128s levit_conv_128s
lowformer_b0
mambaout_femto test_mambaout
coatnet_pico_rw_224 coatnext_nano_rw_224 maxvit_pico_rw_256 maxxvit_rmlp_nano_rw_256 maxvit_tiny_tf_224 test_maxvit
caformer_s18 convformer_s18 poolformer_s12 poolformerv2_s12
gmixer_12_224 gmlp_ti16_224 mixer_s32_224 resmlp_12_224
fbnetv3_b lcnet_035 mobilenetv3_small_050 mobilenetv4_conv_small_035 mobilenetv4_hybrid_medium_075
tf_mobilenetv3_small_minimal_100
mobilenetv5_base
mobilevit_xxs mobilevitv2_050
mvitv2_tiny mvitv2_small_cls
naflexvit_base_patch16_gap
nasnetalarge
nest_tiny nest_tiny_jx
nextvit_small
dm_nfnet_f0 eca_nfnet_l0 nf_regnet_b0 nf_resnet26 test_nfnet
pit_ti_224 pit_ti_distilled_224
pnasnet5large
pvt_v2_b0 pvt_v2_b2_li
qwen3_vit_88m
rdnet_tiny
regnetx_002 regnety_002 regnetz_005 regnetv_040
repghostnet_050
repvit_m0_9
res2net50_48w_2s res2net50d res2next50
resnest14d resnest50d_4s2x40d
resnet10t resnet18 resnet26d resnetaa34d resnetblur18 seresnet18 ecaresnet26t resnet50_gn resnetrs50 test_resnet
resnetv2_18 resnetv2_50x1_bit resnetv2_50d_frn resnetv2_50d_gn
rexnet_100 rexnetr_100
selecsls42
legacy_seresnet18 legacy_seresnext26_32x4d
sequencer2d_s
shvit_s1
skresnet18 skresnext50_32x4d
starnet_s050
swiftformer_xs
swin_tiny_patch4_window7_224 swin_s3_tiny_224
swinv2_tiny_window8_256
swinv2_cr_tiny_224
tiny_vit_5m_224
tnt_s_patch16_224
tresnet_m
twins_pcpvt_small twins_svt_small
vgg11 vgg11_bn
visformer_tiny
vit_tiny_patch16_224 vit_small_patch16_18x2_224 vit_base_patch32_clip_224 vit_base_patch16_siglip_224 test_vit test_vit3
vit_tiny_r_s16_p8_224 vit_small_resnet26d_224
vit_relpos_small_patch16_224 vit_srelpos_small_patch16_224 test_vit_relpos
samvit_base_patch16_224
vitamin_small_224
volo_d1_224
ese_vovnet19b_slim vovnet39a eca_vovnet39b ese_vovnet39b_evos
legacy_xception
xception41 xception41p
xcit_nano_12_p16_224
"""
TIMM = tuple(_FAMILIES.split())
SIDES = (64, 96, 128, 160, 224, 256, 320)  # pixels, tried in this order, then the network's own
#: where windows are padded on smaller images, attention on padding would count as most of the network
_LEAST_SIDES = {"torchvision:swin_v2": 256, "torchvision:swin": 224}
#: arguments by which constructors are told the side of the image
_SIZED = {"timm": ("img_size", "input_size"), "torchvision": ("image_size", "input_size")}

Built = tuple[nn.Module, Tensor]


def names() -> list[str]:
    """Return the names of all networks: ``timm:NAME``, ``torchvision:NAME`` and two more.

    Those are ``torchvision-segmentation:NAME`` and, for the backbone of a detection network,
    ``torchvision-backbone:NAME``.
    """
    models = import_torchvision().models
    return [
        *(f"torchvision:{name}" for name in models.list_models(module=models)),
        *(f"torchvision-segmentation:{name}" for name in models.list_models(module=models.segmentation)),
        *(f"torchvision-backbone:{name}" for name in models.list_models(module=models.detection)),
        *(f"timm:{name}" for name in TIMM),
    ]


def build(name: str, seed: int) -> Built:
    """Return a network with random weights, in eval mode, and the smallest input that it takes.

    Args:
        name: as of `names`.
        seed: of the weights and the input.
    """
    library, _, model = name.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        least = next((side for start, side in _LEAST_SIDES.items() if name.startswith(start)), 0)
        network, example = _sized(_maker(library, model), _SIZED.get(library, ()), least)
        _enliven(network)
    return network, example


def _maker(library: str, name: str) -> Callable[..., nn.Module]:
    """Return the constructor of a network; it takes the library's own keyword arguments."""
    models = import_torchvision().models
    if library == "timm":
        import timm

        return lambda **given: timm.create_model(name, **given)
    if library == "torchvision-backbone":
        return lambda **given: models.get_model(name, weights=None, weights_backbone=None, **given).backbone
    extra: dict[str, Any] = {"weights_backbone": None} if library == "torchvision-segmentation" else {}
    if "init_weights" in inspect.signature(models.get_model_builder(name)).parameters or name in _SLOW_TO_DRAW:
        extra["init_weights"] = False  # drawing them takes minutes of scipy; the default of the layers does as well
    return lambda **given: models.get_model(name, weights=None, **extra, **given)


_SLOW_TO_DRAW = ("googlenet", "inception_v3")


def _sized(make: Callable[..., nn.Module], keywords: tuple[str, ...], least: int) -> Built:
    """Return the network at the first side that it runs at; a side it must be told of is tried before its own."""
    plain = make().eval()
    for side in (*(side for side in SIDES if side >= least), _own_side(plain)):
        for network in _candidates(make, plain, keywords, side):
            example = torch.randn(1, 3, side, side)
            if _runs(network, example):
                return network, example
    raise ValueError(f"{type(plain).__name__} runs at none of the sides {SIDES}")


def _candidates(
    make: Callable[..., nn.Module], plain: nn.Module, keywords: tuple[str, ...], side: int
) -> Iterator[nn.Module]:
    """Yield the network as it is, then made for the side where its constructor can be told."""
    yield plain
    for keyword in keywords:
        for value in (side, (side, side)):
            try:
                yield make(**{keyword: value}).eval()
            except (TypeError, ValueError, AssertionError, RuntimeError):
                continue


def _own_side(network: nn.Module) -> int:
    return int(getattr(network, "default_cfg", {"input_size": (3, 224, 224)})["input_size"][-1])


def _runs(network: nn.Module, example: Tensor) -> bool:
    try:
        with torch.no_grad():
            network(example)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError):
        return False
    return True


def _enliven(network: nn.Module) -> None:
    """Draw parameters that are all one number anew, around that number, and the statistics of batch norms."""
    with torch.no_grad():
        for parameter in network.parameters():
            flat = parameter.reshape(-1)
            if parameter.is_floating_point() and len(flat) > 1 and bool((flat == flat[0]).all()):
                parameter.add_(torch.randn_like(parameter) * 0.1)
        for part in network.modules():
            if isinstance(part, _NormBase) and part.running_mean is not None and part.running_var is not None:
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
