// Runs the model of model_data.h with TensorFlow Lite for Microcontrollers and replays its test vectors.
//
//   c++ -std=c++17 runner.cc model_data.cc <flags and library of tflite-micro> -o runner
//   c++ -std=c++17 -DSELF_CHECK runner.cc model_data.cc -o check      checks the array alone: needs no library
//
// With an Arm Ethos-U: add -DMODEL_ETHOS_U, which takes the array that Vela compiled, and the Ethos-U driver.

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "model_data.h"

#ifdef SELF_CHECK

// FNV-1a, 64 bits.
static std::uint64_t Hash(const unsigned char* data, std::size_t length) {
  std::uint64_t hash = 14695981039346656037ull;
  for (std::size_t at = 0; at < length; ++at) hash = (hash ^ data[at]) * 1099511628211ull;
  return hash;
}

static int Fail(const char* what) {
  std::printf("%s\n", what);
  return 1;
}

int main() {
  if (reinterpret_cast<std::uintptr_t>(g_model) % 16 != 0) return Fail("the array does not begin at a multiple of 16");
  if (g_model_length != kModelLength) return Fail("the array has another length");
  if (g_model[4] != 'T' || g_model[5] != 'F' || g_model[6] != 'L' || g_model[7] != '3') return Fail("the array is no .tflite file");
  if (Hash(g_model, g_model_length) != kModelHash) return Fail("the array has other bytes than the model file");
  for (int label = 0; label < kClasses; ++label) {
    if (g_labels[label] == nullptr) return Fail("a label is missing");
    if (g_thresholds[label] < kOutputZeroPoint) return Fail("a threshold stands for no probability");
  }
  std::printf("%u bytes, %d classes, %d test vectors: as they should be\n", g_model_length, kClasses, kVectors);
  return 0;
}

#else

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

// Twice the estimate: kernels take scratch memory too. Lower it to what arena_used_bytes() prints.
alignas(16) static std::uint8_t arena[2 * kArenaEstimate + 8192];

int main() {
  const tflite::Model* model = tflite::GetModel(g_model);
  tflite::MicroMutableOpResolver<@COUNT@> resolver;
#ifdef MODEL_ETHOS_U
  resolver.AddEthosU();
#endif
@OPERATORS@
  tflite::MicroInterpreter interpreter(model, resolver, arena, sizeof(arena));
  if (interpreter.AllocateTensors() != kTfLiteOk) {
    std::printf("the arena of %u bytes is too small\n", static_cast<unsigned>(sizeof(arena)));
    return 1;
  }
  std::printf("arena used: %u bytes\n", static_cast<unsigned>(interpreter.arena_used_bytes()));
  int worst = 0;
  for (int vector = 0; vector < kVectors; ++vector) {
    std::int8_t* input = interpreter.input(0)->data.int8;
    for (int at = 0; at < kInputLength; ++at) input[at] = static_cast<std::int8_t>(g_inputs[vector][at] + kInputZeroPoint);
    if (interpreter.Invoke() != kTfLiteOk) return 1;
    const std::int8_t* output = interpreter.output(0)->data.int8;
    for (int label = 0; label < kClasses; ++label) {
      const int difference = std::abs(output[label] - g_outputs[vector][label]);
      if (difference > worst) worst = difference;
    }
  }
  // Kernels of different makers may round the last bit differently.
  std::printf("%d test vectors, largest difference %d of 256\n", kVectors, worst);
  return worst > 2 ? 1 : 0;
}

#endif
