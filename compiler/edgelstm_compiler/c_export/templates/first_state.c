
static const uint32_t first_state[@count@] = {
@words@
};
