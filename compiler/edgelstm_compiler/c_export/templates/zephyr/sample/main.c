/* Checks @name@ on this board: its weights, and known inputs and outputs. */
#include <zephyr/kernel.h>
#include <zephyr/sys/printk.h>

#include "@name@.h"

static @name@_state state;
static @name@_scratch scratch;

int main(void)
{
    int32_t result = @name@_selftest(&state, &scratch);

    if (result != 0) {
        printk("@name@: FAIL %d\n", (int)result);
        return 0;
    }
    printk("@name@: PASS\n");
    return 0;
}
