"""Torch's flash attention on a CPU (Dao et al. 2022, arXiv:2205.14135), which it gives no public name.

`forward` takes queries, keys and values [rows, heads, length, dim] and gives what came out and the logs of its sums
[rows, heads, length]; `backward` takes them back, and works on as many heads at once as there are threads.
"""

from __future__ import annotations

import torch

forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
