// Detects objects without Python: runs what `export.py --format aoti` wrote on a PPM picture.
//
//   python examples/export.py runs/shapes/best.pth --format aoti
//   TORCH=$(python -c 'import os, torch; print(os.path.dirname(torch.__file__))')
//   g++ -std=c++20 -O2 examples/detect.cpp -o detect -I$TORCH/include -I$TORCH/include/torch/csrc/api/include \
//       -L$TORCH/lib -Wl,-rpath,$TORCH/lib,--no-as-needed -ltorch -ltorch_cpu -lc10
//   ./detect runs/shapes/best.aoti.pt2 photo.ppm 0.3
//
// The picture is taken as it is. Resize it as the file's metadata says (docs/one_graph.md) for the best result.

#include <ATen/ATen.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

// [1, 3, H, W] uint8 of a binary PPM file of 8 bits a channel.
at::Tensor read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int64_t width = 0, height = 0, most = 0;
  if (!(file >> magic >> width >> height >> most) || magic != "P6" || most != 255) {
    throw std::runtime_error(path + ": not a binary PPM picture of 8 bits a channel");
  }
  file.get();  // the one blank after the header
  auto pixels = at::empty({height, width, 3}, at::kByte);
  if (!file.read(reinterpret_cast<char*>(pixels.data_ptr()), pixels.numel())) {
    throw std::runtime_error(path + ": shorter than its header says");
  }
  return pixels.permute({2, 0, 1}).unsqueeze(0).contiguous();
}

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s DETECTOR.aoti.pt2 PICTURE.ppm THRESHOLD\n", argv[0]);
    return 2;
  }
  try {
    const double threshold = std::stod(argv[3]);
    torch::inductor::AOTIModelPackageLoader detector(argv[1]);
    const auto images = read_ppm(argv[2]);
    const auto sizes = at::tensor({images.size(2), images.size(3)}, at::kLong).unsqueeze(0);
    std::vector<at::Tensor> inputs = {images, sizes};
    const auto found = detector.run(inputs);  // boxes [1, D, 4], scores [1, D], labels [1, D]
    const auto boxes = found[0][0], scores = found[1][0], labels = found[2][0];
    const auto corners = boxes.accessor<float, 2>();
    for (int64_t i = 0; i < scores.size(0) && scores[i].item<double>() >= threshold; ++i) {
      const auto box = corners[i];
      if (box[2] <= box[0] || box[3] <= box[1]) continue;  // outside of the picture, clipped to nothing
      std::printf("label %ld score %.4f box %.2f %.2f %.2f %.2f\n", long(labels[i].item<int64_t>()),
                  scores[i].item<double>(), box[0], box[1], box[2], box[3]);
    }
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "error: %s: %s\n", argv[1], error.what_without_backtrace());
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
