// The input of a model that listens: from samples to the picture it takes, in whole numbers alone (C99, C++11).
//
//     #define MODELYARD_RATE 16000            // or 8000: what the microphone gives
//     #include "sound_input.h"
//     static std::uint8_t picture[MODELYARD_BANDS * MODELYARD_COLUMNS];
//     modelyard_picture(samples, count, picture);      // mono, 16 bits; then byte - 128 into the model's input
//
// It is what the model learned from, written for processors without floating point: @WIDTH@ windows of 32 ms, spread evenly
// over the sound (at least one second of it; shorter ones stand in the middle of silence), each times a Hann window; the power
// of its Fourier transform in @HEIGHT@ bands, 60 to 8000 Hz on the mel scale; decibels below the loudest value, 80 of them as
// 0 to 255. Memory: @RAM@ bytes at 16 kHz, and the tables below. Not reentrant: its working memory is static.
#ifndef MODELYARD_SOUND_INPUT_H_
#define MODELYARD_SOUND_INPUT_H_

#include <stdint.h>

#ifndef MODELYARD_RATE
#define MODELYARD_RATE 16000
#endif

#define MODELYARD_BANDS @HEIGHT@
#define MODELYARD_COLUMNS @WIDTH@

@TABLES@

// cos(2 pi i / size), 30 bits behind the point, for i in -size/4 to size/2.
static int32_t modelyard_cosine(int i) { return modelyard_cosines[i < 0 ? -i : i]; }

static int32_t modelyard_real[MODELYARD_SIZE], modelyard_imaginary[MODELYARD_SIZE];
static int16_t modelyard_levels[MODELYARD_BANDS * MODELYARD_COLUMNS];

// The Fourier transform of modelyard_real and _imaginary, in place (radix 2). Values of 22 bits give at most 31.
static void modelyard_transform(void) {
  for (int i = 1, j = 0; i < MODELYARD_SIZE; ++i) {
    int bit = MODELYARD_SIZE >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      const int32_t kept = modelyard_real[i];
      modelyard_real[i] = modelyard_real[j];
      modelyard_real[j] = kept;
    }
  }
  for (int length = 2; length <= MODELYARD_SIZE; length <<= 1) {
    const int half = length >> 1, step = MODELYARD_SIZE / length;
    for (int start = 0; start < MODELYARD_SIZE; start += length) {
      for (int k = 0; k < half; ++k) {
        const int64_t c = modelyard_cosine(k * step), s = -(int64_t)modelyard_cosine(k * step - MODELYARD_SIZE / 4);
        const int a = start + k, b = a + half;
        const int64_t round = (int64_t)1 << 29;
        const int32_t re = (int32_t)((modelyard_real[b] * c - modelyard_imaginary[b] * s + round) >> 30);
        const int32_t im = (int32_t)((modelyard_real[b] * s + modelyard_imaginary[b] * c + round) >> 30);
        modelyard_real[b] = modelyard_real[a] - re;
        modelyard_imaginary[b] = modelyard_imaginary[a] - im;
        modelyard_real[a] += re;
        modelyard_imaginary[a] += im;
      }
    }
  }
}

// The logarithm to the base 2 of a number above 0, 8 bits behind the point.
static int16_t modelyard_logarithm(uint64_t value) {
  int whole = 63;
  while (!(value >> whole)) --whole;
  // The 10 bits behind the leading one; 5 choose a place in the table, 5 go on between it and the next.
  const uint32_t rest = (uint32_t)((whole >= 10 ? value >> (whole - 10) : value << (10 - whole)) & 1023);
  const uint32_t low = modelyard_logarithms[rest >> 5], high = modelyard_logarithms[(rest >> 5) + 1];
  const uint32_t fraction = low + (((high - low) * (rest & 31) + 16) >> 5);  // 16 bits behind the point
  return (int16_t)((whole << 8) + (int)((fraction + 128) >> 8));
}

// samples: count of them (1 or more), mono. picture: MODELYARD_BANDS rows, the lowest first, of MODELYARD_COLUMNS bytes.
static void modelyard_picture(const int16_t* samples, int32_t count, uint8_t* picture) {
  const int32_t length = count > MODELYARD_RATE ? count : MODELYARD_RATE;
  const int32_t before = (length - count) / 2;
  int32_t largest = 0;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t size = samples[i] < 0 ? -(int32_t)samples[i] : samples[i];
    if (size > largest) largest = size;
  }
  int up = 0;  // the sound as loud as 16 bits hold: only what is loud beside it counts
  while (largest && (largest << (up + 1)) < 32768) ++up;
  int16_t loudest = 0;
  for (int column = 0; column < MODELYARD_COLUMNS; ++column) {
    const int32_t start = (int32_t)(((int64_t)(2 * column + 1) * length) / (2 * MODELYARD_COLUMNS));
    for (int i = 0; i < MODELYARD_SIZE; ++i) {
      const int32_t place = start + i - before - MODELYARD_SIZE / 2;
      const int32_t sample = place >= 0 && place < count ? (int32_t)samples[place] * (1 << up) : 0;
      const int32_t weight = modelyard_window[i <= MODELYARD_SIZE / 2 ? i : MODELYARD_SIZE - i];
      modelyard_real[i] = (int32_t)(((int64_t)sample * weight + 256) >> 9);  // 15 + 16 - 9: 22 bits
      modelyard_imaginary[i] = 0;
    }
    modelyard_transform();
    const uint16_t* weights = modelyard_weights;
    for (int band = 0; band < MODELYARD_BANDS; ++band) {
      uint64_t power = 0;
      for (int i = 0; i < modelyard_counts[band]; ++i) {
        const int64_t re = modelyard_real[modelyard_firsts[band] + i], im = modelyard_imaginary[modelyard_firsts[band] + i];
        power += ((uint64_t)(re * re + im * im) >> 16) * *weights++;
      }
      const int16_t level = modelyard_logarithm(power + 1);
      modelyard_levels[band * MODELYARD_COLUMNS + column] = level;
      if (level > loudest) loudest = level;
    }
  }
  for (int i = 0; i < MODELYARD_BANDS * MODELYARD_COLUMNS; ++i) {
    // A doubled power is 3.0103 decibels, 255 / 80 of a byte each: 9.59533, with 16 bits behind the point 628840.
    const int32_t below = loudest - modelyard_levels[i];
    const int32_t lost = (int32_t)(((int64_t)below * 628840 + (1 << 23)) >> 24);
    picture[i] = (uint8_t)(!largest || lost > 255 ? 0 : 255 - lost);
  }
}

#endif  // MODELYARD_SOUND_INPUT_H_
