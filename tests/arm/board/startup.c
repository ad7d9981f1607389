/* Reset of an emulated Cortex-M board of Arm's MPS2 and MPS3 families; output by semihosting. */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t stack_top, data_load, data_start, data_end, bss_start, bss_end;
extern void initialise_monitor_handles(void);
extern int main(void);

void reset(void)
{
    uint32_t *from = &data_load, *to;
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: floating point on */
    __asm volatile("dsb\n\tisb");
#endif
    for (to = &data_start; to < &data_end; ++to, ++from) {
        *to = *from;
    }
    for (to = &bss_start; to < &bss_end; ++to) {
        *to = 0;
    }
    initialise_monitor_handles();
    exit(main());
}

static void fault(void)
{
    exit(99);
}

__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    (void (*)(void))&stack_top, reset, fault, fault, fault, fault, fault};

void _init(void) {}
void _fini(void) {}
