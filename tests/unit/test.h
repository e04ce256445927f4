/* test - what every unit test includes: cmocka with the headers it needs before itself, asserts on.
 */
#ifndef PREHEAT_UNIT_TEST_H
#define PREHEAT_UNIT_TEST_H

#undef NDEBUG

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
