/* @name@: a model compiled by edgelstm @version@ for @isa@; generated, do not edit.
   @time@
   @floats@

   C99 and C++. No allocation, no library call, no global variable: any number of streams run side
   by side, each with a state of its own; steps that run at the same time need a scratch each.

     static @name@_state state;
     static @name@_scratch scratch;
     @name@_input in;
     @name@_output out;
     int32_t new;
     @name@_init(&state, &scratch);
     for (;;) {
         ...fill in...
         new = @name@_step(@name@_weights, &state, &scratch, &in, &out);
         if (new < 0) ...the input was refused...
         else ...use the outputs whose bit is set in new...
     }
*/
#ifndef EDGELSTM_@upper@_H
#define EDGELSTM_@upper@_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

@macros@
@timing@@state_offsets@@scales@
/* Start of weights, state and scratch: a multiple of @upper@_ALIGNMENT bytes. */
#if defined(__GNUC__) || defined(__clang__)
#define @upper@_ALIGNED __attribute__((aligned(@alignment@)))
#else
#define @upper@_ALIGNED /* tell your compiler or your linker in its own way */
#endif

@types@

/* The weights, constant: @name@_weights, in flash. */
extern const uint32_t @name@_weights[];

/* Before the first step. */
void @name@_init(@name@_state *state, @name@_scratch *scratch);

/* Begin a new stream. */
void @name@_reset(@name@_state *state);

/* One step. weights: @name@_weights, or a copy of it elsewhere (in RAM, say).
   state, scratch: a @name@_state and a @name@_scratch;
   in, out: a @name@_input and a @name@_output.
   @refusal@ */
int32_t @name@_step(const void *weights, void *state, void *scratch, const void *in, void *out);

@more@/* CRC-32 of the weights; @upper@_WEIGHTS_CRC32 if the flash is intact. */
uint32_t @name@_checksum(void);

/* @name@_selftest.c, if you link it: checksum, then known inputs and outputs from a fresh state.
   Uses state and scratch; call @name@_init afterwards.
   Returns 0, -1 if the weights are damaged, or 1 + the first step that is wrong. */
int32_t @name@_selftest(@name@_state *state, @name@_scratch *scratch);

#ifdef __cplusplus
}
#endif

#endif
