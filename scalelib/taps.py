"""Where a network is read: the taps of the architectures that the paper and its companion use, and of any other.

Works on the steps of a graph alone; loads nothing.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from scalelib.errors import NetworkError, did_you_mean, require
from scalelib.graph import Step, auto_named, fields, has_kernel, is_float, keras, loadable

_ADDITIONS = r"conv\d_block\d+_add"
# Architecture, and the layers that are its taps.
_KNOWN = {
    "InceptionV3": r"mixed\d+",
    "ResNet(50|101|152)?": _ADDITIONS,
    "DenseNet(121|169|201)": r"conv1_relu|conv\d_block\d+_concat|relu",
    "MobileNet": r"conv_pw_\d+",
    "MobileNetV2": r"(expanded_conv|block_\d+)_(add|project_BN)|out_relu",
    "SqueezeNet": r"pool1|fire\d",
    "NASNet(Large|Mobile)": r"(normal|reduction)_concat_\w+",
}
# What changes no value that matters.
_PLUMBING = {
    "ZeroPadding2D", "Cropping2D", "Dropout", "SpatialDropout2D", "Flatten", "Reshape", "Identity", "ConvertToTensor",
    "Cast",
}  # fmt: skip
_LAYERS = keras.layers
_CONVOLUTIONS = (_LAYERS.Conv2D, _LAYERS.DepthwiseConv2D, _LAYERS.SeparableConv2D)
_NORMALISATIONS = (_LAYERS.BatchNormalization, _LAYERS.LayerNormalization, _LAYERS.GroupNormalization)


def taps_of(architecture: str | None, steps: Sequence[Step]) -> dict[str, str]:
    """The default taps of a network, from input to output: tap name → name of the layer whose output is read.

    ResNet, and any model with its layers' names: ``add1`` …, the residual additions counted from 1, as the paper does.
    DenseNet: the concatenations, and the last batch normalisation's ReLU, ``relu``. MobileNet: the blocks' pointwise
    convolutions before batch normalisation and ReLU (behind average pooling, batch normalisation is an affine map of
    each channel, to which a standardised linear read-out is blind; the ReLU is not: ``taps=["conv_pw_13_relu"]``
    reads after it). MobileNetV2: the block's addition, else its projection. All end with ``pre_softmax`` (the
    logits) and ``softmax`` where there is a classifier.
    """
    if architecture is None and any(re.fullmatch(_ADDITIONS, step.name) for step in steps):
        architecture = "ResNet"
    layers = next((layers for name, layers in _KNOWN.items() if re.fullmatch(name, architecture or "")), None)
    if layers is None:
        return taps_from_graph(steps)
    found = list(dict.fromkeys(step.name for step in steps if re.fullmatch(layers, step.name)))
    if architecture == "MobileNetV2":
        added = [name.replace("_add", "_project_BN") for name in found if name.endswith("_add")]
        found = [name for name in found if name not in added]
    counted = architecture and architecture.startswith("ResNet")
    taps = {f"add{number}" if counted else name: name for number, name in enumerate(found, start=1)}
    return taps | _outputs(steps)


def _outputs(steps: Sequence[Step]) -> dict[str, str]:
    """``pre_softmax`` and ``softmax``, where the last step is one: a layer, a bare operation, an Activation."""
    last = steps[-1]
    activation = getattr(last.operation, "activation", None)
    if activation is not keras.activations.softmax and type(last.operation).__name__ != "Softmax":
        return {}
    logits = next(step for step in steps if any(last.inputs[0] is tensor for tensor in step.outputs))
    return {"pre_softmax": logits.name, "softmax": last.name}


def taps_from_graph(steps: Sequence[Step]) -> dict[str, str]:
    """One tap a block of any network, from input to output.

    A tap is a tensor through which everything later must pass, so that the network can be cut there: the end of a
    residual, dense or inception block, where several maps come together; a linear bottleneck, which ends an inverted
    residual block without addition or a downsampling step; the last map of a stage, of one stride, in which no block
    ends (VGG's blocks, stems), and the last map of all; a hidden dense layer; the logits and the softmax, or the last
    output.

    It bears its layer's name; where Keras made that name up (``add_7``) it differs between builds, and the tap is
    called ``stage3_block2``: stride 2³, second tap. Sequences of tokens are passed over. Long skips (U-Net) leave few
    such tensors: name taps for those networks.
    """
    sources, readers = _wires(steps)
    seen = fields(steps)
    stride = {i: max(field.stride) for i in sources if (field := seen[id(steps[i].outputs[0])])}
    learned = [i for i in sources if has_kernel(steps[i].operation)]
    convolutions = [i for i in learned if i in stride]
    first = min(convolutions, default=0)
    cuts = [i for i in _cuts(sources, readers) if i >= first and len(steps[i].outputs[0].shape) in (2, 4)]

    def ends_block(i: int) -> bool:
        """Several maps come together, or a convolution without activation is read by the next one."""
        if sum(source in stride for source in sources[i]) > 1:
            return type(steps[i].operation).__name__ != "Multiply"  # a product is a gate, not a merge
        read = any(isinstance(steps[reader].operation, _CONVOLUTIONS) for reader in readers[i])
        while isinstance(steps[i].operation, _NORMALISATIONS) and sources[i][0] >= 0:
            i = sources[i][0]
        operation = steps[i].operation
        linear = isinstance(operation, _CONVOLUTIONS) and operation.activation is keras.activations.linear
        return read and linear

    maps, vectors = [i for i in cuts if i in stride], [i for i in cuts if i not in stride]
    chosen = {i for i in maps if ends_block(i)}
    for worked_at in {stride[i] for i in convolutions}:
        stage = [i for i in maps if stride[i] == worked_at]
        chosen |= set() if chosen.intersection(stage) else set(stage[-1:])
    if any(max(chosen, default=-1) < i <= max(maps, default=-1) for i in convolutions):
        chosen.add(maps[-1])
    outputs = _outputs(steps)
    begins = [*(i for i in vectors if i in learned), len(steps)]
    hidden = [max(i for i in vectors if low <= i < high) for low, high in pairwise(begins)]
    hidden = [i for i in hidden if steps[i].name not in outputs.values()]
    taps: dict[str, str] = {}
    places: Counter[str] = Counter()
    for i in [*sorted(chosen), *hidden]:
        kind = f"stage{round(math.log2(stride[i]))}_block" if i in stride else "hidden"
        places[kind] += 1
        made_up = "output" if hidden[-1:] == [i] and not outputs else f"{kind}{places[kind]}"
        taps[made_up if auto_named(steps[i].operation) else steps[i].name] = steps[i].name
    return taps | outputs


def _wires(steps: Sequence[Step]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """The steps that each step reads (-1: the image) and is read by, past those that change no value that matters."""
    maker: dict[int, int] = {}
    sources: dict[int, list[int]] = {}
    readers: dict[int, list[int]] = defaultdict(list)
    for i, step in enumerate(steps):
        read = sorted({maker.get(id(tensor), -1) for tensor in step.inputs})
        plumbing = len(read) == 1 and type(step.operation).__name__ in _PLUMBING
        maker |= dict.fromkeys(map(id, step.outputs), read[0] if plumbing else i)
        if not plumbing:
            sources[i] = read
            for source in read:
                readers[source].append(i)
    return sources, readers


def _cuts(sources: Iterable[int], readers: Mapping[int, list[int]]) -> Iterator[int]:
    """The steps through which everything later must pass: nothing made earlier is read later."""
    last_read = max(readers[-1], default=-1)
    for i in sources:
        if last_read <= i:
            yield i
        last_read = max([last_read, *readers[i]])


def reach_of(held: Counter[tuple[int, ...]], steps: Sequence[Step]) -> int:
    """How many steps from the first on have weights of just these shapes, and can stand alone; 0: none."""
    ends, reach = {*_cuts(*_wires(steps)), len(steps) - 1}, 0
    shapes: Counter[tuple[int, ...]] = Counter()
    first = {step.operation: i for i, step in reversed(list(enumerate(steps)))}
    for i, step in enumerate(steps):
        weights = getattr(step.operation, "weights", []) if first[step.operation] == i else []
        shapes.update(tuple(weight.shape) for weight in weights if is_float(weight))
        if i in ends and held and shapes == held:
            reach = i + 1
    return reach


def resolve(
    name: str, taps: Mapping[str, str], *, network: str, operation: str, layers: Iterable[str] = ()
) -> str:
    """A tap's present name from that name, its layer's, or one used by the paper or an older Keras.

    For ResNet50 ``"add16"``, ``"conv5_block3_add"`` (Keras 3) and ``"add_16"`` (Keras 2) are the same tap.
    `layers` may be meant as well where a name is wrong.
    """
    plain = {re.sub(r"[-_ ]", "", tap).lower(): tap for tap in taps}
    if "pre_softmax" in taps:
        plain["logits"] = "pre_softmax"
    known = plain | {layer: tap for tap, layer in taps.items()} | {tap: tap for tap in taps}
    found = known.get(str(name)) or known.get(re.sub(r"[-_ ]", "", str(name)).lower())
    rule = f"no layer {str(name)!r} in {network}; taps are {', '.join(taps)}"
    hint = did_you_mean(str(name), [*taps, *taps.values(), *layers])
    advice = hint or "Any layer can be a tap: name it with taps=[…], in a shell with --taps"
    require(found, operation, rule, repr(name), advice, error=NetworkError)
    return str(found)


def choose_taps(
    wanted: Iterable[str] | Mapping[str, str] | None,
    default: dict[str, str],
    steps: Sequence[Step],
    network: str,
) -> dict[str, str]:
    """The taps asked for, from input to output; every layer may be one. None: the default taps."""
    order = {step.name: number for number, step in enumerate(steps)}
    if wanted is None:
        wanted = default
    elif not isinstance(wanted, Mapping):
        wanted = {tap: tap for tap in ([wanted] if isinstance(wanted, str) else wanted)}
    offered = f"{network} offers {', '.join(default) or 'none of its own'}"
    advice = f"taps=[…] may name any of {', '.join(order)}"
    loadable(wanted, f"a network needs at least one tap; {offered}", "none", advice)
    chosen: dict[str, str] = {}
    for tap, layer in wanted.items():
        if layer in order and (tap != layer or layer not in default):
            chosen[tap] = layer
        else:
            found = resolve(layer, default, network=network, operation="load_network", layers=order)
            chosen[found if tap == layer else tap] = default[found]
    for tap, layer in chosen.items():
        axes = len(steps[order[layer]].outputs[0].shape) - 1
        received = f"{tap!r}, whose output has {axes} axes"
        loadable(axes in (1, 3), f"a tap is a map or a vector; {offered}", received, advice)
    return dict(sorted(chosen.items(), key=lambda item: order[item[1]]))
