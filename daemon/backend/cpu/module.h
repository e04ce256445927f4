/* module - the backend that computes on the host's CPU, in f32, linked in. */
#ifndef PREHEAT_BACKEND_CPU_MODULE_H
#define PREHEAT_BACKEND_CPU_MODULE_H

#include "backend/backend.h"

/* Activations are F32. Weights stay in the host's bytes but for convolutions (packed to F32) and
 * vectors that are not F32; products widen them panel by panel. Work is cut by the shapes alone, so
 * results do not depend on the number of threads. memory_total is 0. */
extern const BackendModule backend_cpu;

#endif
