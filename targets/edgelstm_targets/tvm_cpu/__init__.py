"""CPU code by TVM TensorIR and LLVM; the only room that knows tvm."""
