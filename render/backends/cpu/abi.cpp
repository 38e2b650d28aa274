// The C ABI of recon's CPU kernels. Every exported symbol starts with recon_.
#include <cstdint>

#if defined(_WIN32)
#define RECON_API extern "C" __declspec(dllexport)
#else
#define RECON_API extern "C" __attribute__((visibility("default")))
#endif

// Version of this ABI. The Python side refuses a library of another version,
// so that a stale build is named instead of corrupting memory.
RECON_API std::int32_t recon_cpu_abi_version() { return 1; }
