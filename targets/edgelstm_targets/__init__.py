"""The targets that come with edgelstm: Program in, native code out."""
