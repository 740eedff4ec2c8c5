"""The peak of each accelerator, with the source of each figure: what utilisation is measured against.

All figures are dense: where a vendor states the doubled one for sparse matrices, half of it stands here. They are for
matrix multiplication with 32-bit sums, which training needs: GeForce cards are faster with 16-bit sums, and AMD's fp32
is that of the matrix cores. A device is what a framework calls one: of an MI250X, one of its two dies. A figure without
a source is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One accelerator: how it is recognised, its memory, and its dense peak in TFLOP/s by number format.

    A format is None where the device does not have it, or where no source for the figure is known.
    """

    name: str
    #: Alternatives; each is the words of which a reported name must have all, in any order.
    words: tuple[str, ...]
    #: GB as the vendor states it; several where it was sold with several.
    memory_gb: tuple[int, ...]
    fp32: float | None
    tf32: float | None
    fp16: float | None
    bf16: float | None
    fp8: float | None
    #: Where the figures stand, and the year; "halved" where they stand there with sparsity, or for two dies.
    source: str


_V100 = (
    "NVIDIA V100 datasheet, 2020, "
    "https://images.nvidia.com/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf"
)
_T4 = (
    "NVIDIA T4 datasheet, 2019, "
    "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/tesla-t4/t4-tensor-core-datasheet-951643.pdf"
)
_A10 = (
    "NVIDIA A10 datasheet, 2021, "
    "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a10/pdf/a10-datasheet.pdf"
)
_A10G = (
    "NVIDIA A10G datasheet for AWS, 2022, "
    "https://d1.awsstatic.com/product-marketing/ec2/NVIDIA_AWS_A10G_DataSheet_FINAL_02_17_2022.pdf"
)
_A30 = "NVIDIA A30 product page, 2021, https://www.nvidia.com/en-us/data-center/products/a30-gpu/"
_A100 = (
    "NVIDIA A100 datasheet, 2021, https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/"
    "nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf"
)
_GA102 = (
    "NVIDIA Ampere GA102 whitepaper V2, 2021, "
    "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.pdf"
)
_ADA = "NVIDIA Ada whitepaper, 2022, https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"
_RTX_6000 = (
    "NVIDIA RTX 6000 Ada datasheet, 2023, https://www.nvidia.com/en-us/design-visualization/rtx-6000/: 1,457 in 8 bits"
    " with sparsity, halved, and halved again for 16 bits"
)
_RTX_5090 = (
    "NVIDIA RTX Blackwell whitepaper, 2025, as quoted in "
    "https://forums.developer.nvidia.com/t/rtx-5090-peak-bf16-tensor-tflops/350543"
)
#: Cards for games: cores times two times the boost clock of NVIDIA's product pages. In 16 bits, summed in 32, a tensor core of
#: theirs does twice what the other cores do, as the whitepapers have it of the cards that they print.
_GA10X = f"cores and boost clock of NVIDIA's product page; 16 bits are twice 32, as for the RTX 3090, 3080 and 3070 in: {_GA102}"
_AD10X = (
    f"cores and boost clock of NVIDIA's product page; 16 bits are twice 32, as for the RTX 4090 and 4080 in: {_ADA}"
)
_GB20X = f"cores and boost clock of NVIDIA's product page; 16 bits are twice 32, as for the RTX 5090 in: {_RTX_5090}"
_L4 = "NVIDIA L4 product page, 2023, https://www.nvidia.com/en-us/data-center/l4/, halved"
_L40 = "NVIDIA L40 product page, 2022, https://www.nvidia.com/en-us/data-center/l40/"
_L40S = "NVIDIA L40S datasheet, 2023, https://resources.nvidia.com/en-us-l40s/l40s-datasheet-28413"
_H100 = (
    "NVIDIA H100 datasheet, 2024, "
    "https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet, halved"
)
_H100_PCIE = "NVIDIA H100 datasheet, 2022, https://www.nvidia.com/en-us/data-center/h100/, halved"
_H200 = "NVIDIA H200 product page, 2024, https://www.nvidia.com/en-us/data-center/h200/, halved"
_H20 = (
    "not published by NVIDIA; as reported in https://willitrunai.com/es/gpus/h20-96gb and"
    " https://zangshuxian.com/new/674733024499207168, 2024"
)
_BLACKWELL = (
    "NVIDIA Blackwell datasheet, 2024, https://nvdam.widen.net/s/wwnsxrhm2w/blackwell-datasheet-3384703, halved"
)
_CDNA2 = "AMD CDNA 2 white paper, 2021, table of peaks against MI100"
_CDNA2_DIE = f"{_CDNA2}, halved for one die"
_MI210 = "AMD MI210 product page, 2022, https://www.amd.com/en/products/accelerators/instinct/mi200/mi210.html"
_MI250 = (
    "AMD MI250 product page, 2021, https://www.amd.com/en/products/accelerators/instinct/mi200/mi250.html,"
    " halved for one die"
)
_MI300X = "AMD MI300X product page, 2023, https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html"
_MI325X = "AMD MI325X product page, 2024, https://www.amd.com/en/products/accelerators/instinct/mi300/mi325x.html"
_MI355X = "AMD MI355X product page, 2025, https://www.amd.com/en/products/accelerators/instinct/mi350/mi355x.html"
_GAUDI = "Intel at Hot Chips 2024, Gaudi 3 AI Accelerator, tables of the generations and of the specification"
_TPU_V4 = "Google Cloud documentation, 2024, https://cloud.google.com/tpu/docs/v4"
_TPU_V5E = "Google Cloud documentation, 2024, https://cloud.google.com/tpu/docs/v5e"
_TPU_V5P = "Google Cloud documentation, 2024, https://cloud.google.com/tpu/docs/v5p"
_TPU_V6E = "Google Cloud documentation, 2025, https://cloud.google.com/tpu/docs/v6e"

# fmt: off
DEVICES: tuple[Device, ...] = (
    #      name            words                        memory     fp32   tf32    fp16    bf16    fp8
    Device("V100 SXM2",    ("v100 sxm2",),              (16, 32),  15.7,  None,   125,    None,   None,   _V100),
    Device("V100 PCIe",    ("v100 pcie",),              (16, 32),  14,    None,   112,    None,   None,   _V100),
    Device("V100S PCIe",   ("v100s",),                  (32,),     16.4,  None,   130,    None,   None,   _V100),
    Device("T4",           ("t4",),                     (16,),     8.1,   None,   65,     None,   None,   _T4),
    Device("A10",          ("a10",),                    (24,),     31.2,  62.5,   125,    125,    None,   _A10),
    Device("A10G",         ("a10g",),                   (24,),     35,    None,   70,     70,     None,   _A10G),
    Device("A30",          ("a30",),                    (24,),     10.3,  82,     165,    165,    None,   _A30),
    Device("A40",          ("a40",),                    (48,),     37.4,  74.8,   149.7,  149.7,  None,   _GA102),
    Device("A100",         ("a100",),                   (40, 80),  19.5,  156,    312,    312,    None,   _A100),
    Device("RTX A6000",    ("rtx a6000",),              (48,),     38.7,  None,   154.8,  154.8,  None,   _GA102),
    Device("RTX 3090",     ("rtx 3090",),               (24,),     35.6,  None,   71,     71,     None,   _GA102),
    Device("RTX 4090",     ("rtx 4090",),               (24,),     82.6,  82.6,   165.2,  165.2,  330.3,  _ADA),
    Device("RTX 6000 Ada", ("rtx 6000 ada",),           (48,),     91.1,  None,   364.25, 364.25, 728.5,  _RTX_6000),
    Device("RTX 5090",     ("rtx 5090",),               (32,),     104.8, None,   209.5,  209.5,  None,   _RTX_5090),
    Device("RTX 3060",      ("rtx 3060",),               (12,),     12.7,  None,  25.5,   25.5,   None,   _GA10X),
    Device("RTX 3060 Ti",   ("rtx 3060 ti",),            (8,),      16.2,  None,  32.4,   32.4,   None,   _GA10X),
    Device("RTX 3070",      ("rtx 3070",),               (8,),      20.3,  None,  40.6,   40.6,   None,   _GA10X),
    Device("RTX 3070 Ti",   ("rtx 3070 ti",),            (8,),      21.7,  None,  43.5,   43.5,   None,   _GA10X),
    Device("RTX 3080",      ("rtx 3080",),               (10,),     29.8,  None,  59.5,   59.5,   None,   _GA10X),
    Device("RTX 3080 Ti",   ("rtx 3080 ti",),            (12,),     34.1,  None,  68.2,   68.2,   None,   _GA10X),
    Device("RTX 3090 Ti",   ("rtx 3090 ti",),            (24,),     40,    None,  80,     80,     None,   _GA10X),
    Device("RTX 4060",      ("rtx 4060",),               (8,),      15.1,  None,  30.2,   30.2,   60.5,   _AD10X),
    Device("RTX 4060 Ti",   ("rtx 4060 ti",),            (8, 16),   22.1,  None,  44.1,   44.1,   88.3,   _AD10X),
    Device("RTX 4070",      ("rtx 4070",),               (12,),     29.1,  None,  58.3,   58.3,   116.6,  _AD10X),
    Device("RTX 4070 Super",("rtx 4070 super",),         (12,),     35.5,  None,  71,     71,     141.9,  _AD10X),
    Device("RTX 4070 Ti",   ("rtx 4070 ti",),            (12,),     40.1,  None,  80.2,   80.2,   160.4,  _AD10X),
    Device("RTX 4070 Ti Super",("rtx 4070 ti super",),      (16,),     44.1,  None,  88.2,   88.2,   176.4,  _AD10X),
    Device("RTX 4080",      ("rtx 4080",),               (16,),     48.7,  None,  97.5,   97.5,   194.9,  _AD10X),
    Device("RTX 4080 Super",("rtx 4080 super",),         (16,),     52.2,  None,  104.4,  104.4,  208.9,  _AD10X),
    Device("RTX 5070",      ("rtx 5070",),               (12,),     30.9,  None,  61.7,   61.7,   None,   _GB20X),
    Device("RTX 5070 Ti",   ("rtx 5070 ti",),            (16,),     43.9,  None,  87.9,   87.9,   None,   _GB20X),
    Device("RTX 5080",      ("rtx 5080",),               (16,),     56.3,  None,  112.6,  112.6,  None,   _GB20X),
    Device("L4",           ("l4",),                     (24,),     30.3,  60,     121,    121,    242.5,  _L4),
    Device("L40",          ("l40",),                    (48,),     90.5,  90.5,   181.05, 181.05, 362,    _L40),
    Device("L40S",         ("l40s",),                   (48,),     91.6,  183,    362.05, 362.05, 733,    _L40S),
    Device("H100 SXM",     ("h100 hbm3", "h100 sxm", "h100 sxm5"),
                                                        (80,),     67,    494.5,  989.5,  989.5,  1979,   _H100),
    Device("H100 PCIe",    ("h100 pcie", "h100 hbm2e"), (80,),     51,    378,    756.5,  756.5,  1513,   _H100_PCIE),
    Device("H100 NVL",     ("h100 nvl",),               (94,),     None,  None,   835.5,  835.5,  None,   _H100),
    Device("H200",         ("h200",),                   (141,),    67,    494.5,  989.5,  989.5,  1979,   _H200),
    Device("H200 NVL",     ("h200 nvl",),               (141,),    None,  None,   835.5,  835.5,  None,   _H200),
    Device("H20",          ("h20",),                    (96,),     44,    74,     148,    148,    None,   _H20),
    Device("B100",         ("b100",),                   (192,),    None,  None,   1750,   1750,   3500,   _BLACKWELL),
    Device("B200",         ("b200",),                   (180, 192), None, None,   2250,   2250,   4500,   _BLACKWELL),
    Device("GB200, one GPU of two", ("gb200",),         (192,),    None,  1250,   2500,   2500,   5000,   _BLACKWELL),
    Device("MI100",        ("mi100",),                  (32,),     46.1,  None,   184.6,  92.3,   None,   _CDNA2),
    Device("MI210",        ("mi210",),                  (64,),     45.3,  None,   181,    181,    None,   _MI210),
    Device("MI250, one die of two", ("mi250",),         (64,),     45.25, None,   181.05, 181.05, None,   _MI250),
    Device("MI250X, one die of two", ("mi250x",),       (64,),     47.85, None,   191.5,  191.5,  None,   _CDNA2_DIE),
    Device("MI300X",       ("mi300x",),                 (192,),    163.4, 653.7,  1307.4, 1307.4, 2614.9, _MI300X),
    Device("MI325X",       ("mi325x",),                 (256,),    163.4, 653.7,  1307.4, 1307.4, 2614.9, _MI325X),
    Device("MI355X",       ("mi355x",),                 (288,),    157.3, None,   2516.6, 2516.6, 5033.2, _MI355X),
    Device("Gaudi 2",      ("gaudi2", "gaudi 2"),       (96,),     None,  None,   None,   432,    None,   _GAUDI),
    Device("Gaudi 3",      ("gaudi3", "gaudi 3"),       (128,),    None,  None,   None,   1835,   1835,   _GAUDI),
    Device("TPU v4",       ("tpu v4",),                 (32,),     None,  None,   None,   275,    None,   _TPU_V4),
    Device("TPU v5e",      ("tpu v5e", "tpu v5 lite"),  (16,),     None,  None,   None,   197,    None,   _TPU_V5E),
    Device("TPU v5p",      ("tpu v5p", "tpu v5"),       (95,),     None,  None,   None,   459,    None,   _TPU_V5P),
    Device("TPU v6e",      ("tpu v6e", "tpu v6 lite"),  (32,),     None,  None,   None,   918,    None,   _TPU_V6E),
)
# fmt: on

#: A name with one of these words is another product than the one without, or a part of one: "RTX 4090 Laptop GPU",
#: "A100-SXM4-40GB MIG 1g.5gb", "GRID A100X-40C", the A100 of 64 GB that was made for one machine. Only a row that asks
#: for the word may match.
_OTHER_PRODUCT = frozenset(("laptop", "mobile", "max", "ti", "super", "d", "lite", "hf", "mig", "grid", "vgpu", "64gb"))
#: Virtual GPUs end in a size and a letter for their licence: "NVIDIA A40-48Q".
_VIRTUAL = re.compile(r"\d+[abcq]")

_FORMAT_NAMES = {
    "float32": "fp32", "float": "fp32", "f32": "fp32", "fp32": "fp32", "32": "fp32",
    "tf32": "tf32", "tensorfloat32": "tf32",
    "float16": "fp16", "half": "fp16", "f16": "fp16", "fp16": "fp16", "16": "fp16",
    "bfloat16": "bf16", "bf16": "bf16",
    "float8": "fp8", "f8": "fp8", "fp8": "fp8",
}  # fmt: skip


def find_device(device_name: str) -> Device | None:
    """The accelerator that a framework or a driver calls by that name; the row that asks for most words wins.

    Returns:
        The row, or None for a name that is not known, that leaves open which of two products it is ("NVIDIA H100"
        may be SXM or PCIe), or that is a part of a device (MIG, a virtual GPU).
    """
    reported = set(re.findall(r"[a-z0-9]+", device_name.lower()))
    if any(_VIRTUAL.fullmatch(word) for word in reported):
        return None
    unusual = reported & _OTHER_PRODUCT
    best: list[Device] = []
    most = 0
    for device in DEVICES:
        for alternative in device.words:
            asked = set(alternative.split())
            if not asked <= reported or not unusual <= asked or len(asked) < most:
                continue
            best = [device] if len(asked) > most else [*best, device]
            most = len(asked)
    return best[0] if len(set(best)) == 1 else None


def peak_flops(device_name: str, dtype: str = "bfloat16") -> float | None:
    """Dense peak of one device in FLOP/s, for matrix multiplication in that number format.

    Args:
        device_name: as `torch.cuda.get_device_name`, `rocm-smi`, `hl-smi` or JAX's `device_kind` give it.
        dtype: "bfloat16", "float16", "float32", "tf32" (what PyTorch computes float32 in, once it is allowed to),
            "float8..."; "torch.bfloat16" and "bf16-mixed" will do as well.

    Returns:
        FLOP/s, or None where the device, the format, or the figure for it is not known.
    """
    device = find_device(device_name)
    number_format = _number_format(dtype)
    if device is None or number_format is None:
        return None
    teraflops: float | None = getattr(device, number_format)
    return None if teraflops is None else teraflops * 1e12


def _number_format(dtype: str) -> str | None:
    name = str(dtype).lower().rpartition(".")[2].removesuffix("-mixed").removesuffix("-true")
    # float8_e4m3fn and float8_e5m2 share one peak.
    return _FORMAT_NAMES.get(name.partition("_")[0])
