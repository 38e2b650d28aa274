// Marks the exported functions of the library.
#pragma once

#if defined(_WIN32)
#define RECON_API extern "C" __declspec(dllexport)
#else
#define RECON_API extern "C" __attribute__((visibility("default")))
#endif
