"""What NVIDIA's data sheets say of five GPUs, and the least time that work takes on one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.graph_work import Kernel, StageWork


@dataclass(frozen=True, slots=True)
class Device:
    """Peak rates of a GPU.

    ``tensor_flops`` is of dense half-precision products on tensor cores, ``vector_flops`` of float32 on the plain
    units, both in operations a second; ``memory_bytes_s`` the memory's bandwidth and ``host_bytes_s`` that of the bus
    in one direction, in bytes a second.
    """

    name: str
    tensor_flops: float
    vector_flops: float
    memory_bytes_s: float
    host_bytes_s: float


DEVICES: Final = (
    Device("T4", 65e12, 8.1e12, 320e9, 16e9),
    Device("L4", 121e12, 30.3e12, 300e9, 32e9),
    Device("A10", 125e12, 31.2e12, 600e9, 32e9),
    Device("A100 80 GB PCIe", 312e12, 19.5e12, 1935e9, 32e9),
    Device("H100 80 GB PCIe", 756e12, 51e12, 2000e9, 64e9),
)
"""Peaks as published; what NVIDIA gives with sparsity is halved, and what it gives of the bus for both directions as
well.

- T4: "NVIDIA T4" data sheet (2019), 65 TFLOPS mixed precision, 8.1 TFLOPS single; 320 GB/s; PCIe 3.0 x16. A card of
  70 W: it holds its clock only for as long as it stays within that.
- L4: "NVIDIA L4" data sheet (2023), 242 TFLOPS FP16 with sparsity, 30.3 TFLOPS FP32; 300 GB/s; PCIe 4.0 x16.
- A10: "NVIDIA A10" data sheet (2021), 125 TFLOPS FP16, 31.2 TFLOPS FP32; 600 GB/s; PCIe 4.0 x16.
- A100: "NVIDIA A100 Tensor Core GPU" data sheet (2021), 80 GB PCIe: 312 TFLOPS FP16, 19.5 TFLOPS FP32; 1,935 GB/s;
  PCIe 4.0 x16.
- H100: "NVIDIA H100 Tensor Core GPU" data sheet (2022), PCIe: 1,513 TFLOPS FP16 with sparsity, 51 TFLOPS FP32; 2 TB/s;
  PCIe 5.0 x16.
"""

SHORTEST_KERNEL_S: Final = 2e-6
"""What a kernel takes however little it does, in a CUDA graph: an assumption, not a figure of a data sheet. NVIDIA's
"Getting Started with CUDA Graphs" (2019) measured 3.4 microseconds from one kernel of 2.9 to the next on a V100."""


def kernel_floor_s(kernel: Kernel, device: Device) -> float:
    """The least seconds that a kernel takes: its arithmetic, its memory traffic or its launch, whichever is longest."""
    flops = device.tensor_flops if kernel.engine == "tensor" else device.vector_flops
    return max(
        2 * kernel.multiply_adds / flops,
        kernel.bytes_moved / device.memory_bytes_s,
        SHORTEST_KERNEL_S,
    )


def stage_floor_s(work: StageWork, device: Device) -> float:
    """The least seconds that one run of a stage takes: its kernels one after the other."""
    return sum(kernel_floor_s(kernel, device) for kernel in work.kernels)
