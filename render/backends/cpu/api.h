// Marks what the library shows to the outside.
#pragma once

#if defined(_WIN32)
#define RECON_API extern "C" __declspec(dllexport)
#else
#define RECON_API extern "C" __attribute__((visibility("default")))
#endif
