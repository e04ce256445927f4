/* numa - takes memory where the GPU is. */
#ifndef PREHEAT_WARMUP_NUMA_H
#define PREHEAT_WARMUP_NUMA_H

/* numa_gpu_node - of the first NVIDIA display controller; -1 when there is none or it has none. */
int numa_gpu_node(void);

/* numa_prefer_gpu - this thread's further allocations prefer the node of the first NVIDIA display
 * controller. Returns the node; -1 when there is no choice of nodes, there is no such controller,
 * it has no node, or the kernel refuses. */
int numa_prefer_gpu(void);

#endif
