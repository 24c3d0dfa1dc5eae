"""The live method, without a framework: answer, verify, decide, record."""
