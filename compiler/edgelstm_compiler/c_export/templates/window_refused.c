/* What is returned of a frame that the model does not take; 0 where it does. */
static int32_t refused(const void *in)
{
@checks@    return 0;
}

