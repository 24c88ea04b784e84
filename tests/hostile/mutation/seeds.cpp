#include "tests/hostile/mutation/seeds.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace calf::test {
namespace {

struct Recipe {
  const char* name;
  const char* options;
  bool compressed = false;
  bool snapshots = false;
  bool bitmap = false;
  bool backing = false;
};

constexpr Recipe kQcow2[] = {
    {"v2", "compat=0.10,cluster_size=4096"},
    {"v2_snapshots", "compat=0.10,cluster_size=4096", false, true},
    {"v3", "cluster_size=65536"},
    {"small_clusters", "cluster_size=512"},
    {"small_snapshots", "cluster_size=512", false, true},
    {"large_clusters", "cluster_size=2097152"},
    {"zlib", "cluster_size=4096", true},
    {"zstd", "cluster_size=4096,compression_type=zstd", true},
    {"zlib_snapshots", "cluster_size=4096", true, true},
    {"counts_1", "cluster_size=1024,refcount_bits=1"},
    {"counts_1_zlib", "cluster_size=1024,refcount_bits=1", true},
    {"counts_8", "cluster_size=1024,refcount_bits=8", false, true},
    {"counts_64", "cluster_size=512,refcount_bits=64", false, true},
    {"lazy", "cluster_size=4096,lazy_refcounts=on"},
    {"extended", "cluster_size=16384,extended_l2=on"},
    {"extended_snapshots", "cluster_size=16384,extended_l2=on", false, true},
    {"bitmap", "cluster_size=4096", false, false, true},
    {"bitmap_snapshots", "cluster_size=65536", false, true, true},
    {"overlay", "cluster_size=4096", false, false, false, true},
    {"overlay_extended", "cluster_size=16384,extended_l2=on", false, true, false, true},
};

constexpr const char* kVmdk[] = {"monolithicSparse", "streamOptimized"};

// 300 KiB: text that compresses, zeroes, bytes that do not.
void write_content(const std::string& path) {
  std::ofstream out(path, std::ios::binary);
  uint64_t x = 88172645463325252;
  for (unsigned i = 0; i < 300 * 1024; ++i) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    const unsigned block = i / 8192;
    char byte = block % 3 == 0   ? static_cast<char>('a' + i / 512 % 26)
                : block % 3 == 1 ? '\0'
                                 : static_cast<char>(x >> 32);
    out.put(byte);
  }
}

class Kitchen {
 public:
  Kitchen(const std::string& folder, const std::function<int(Words)>& run)
      : folder_(folder), run_(run), content_(folder + "/content.raw") {
    write_content(content_);
  }

  void cook(const Recipe& recipe);
  void cook_encrypted(const char* name, const char* format, const std::string& options,
                      const char* key_option);
  void cook_data_file();
  void cook_foreign(const char* subformat);
  std::vector<Seed> take() { return std::move(seeds_); }

 private:
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  void serve(bool made, Seed seed) {
    if (made) {
      seeds_.push_back(std::move(seed));
    } else {
      std::printf("SKIPPED: seed %s could not be made here\n", seed.name.c_str());
    }
  }

  std::string folder_;
  const std::function<int(Words)>& run_;
  std::string content_;
  std::vector<Seed> seeds_;
};

void Kitchen::cook(const Recipe& recipe) {
  Seed seed{recipe.name, "qcow2", path(recipe.name), {}};
  Words words = {"convert", "-f", "raw", "-O", "qcow2", "-o", recipe.options};
  if (recipe.compressed) words.insert(words.end(), {"-c", "-S", "4k"});
  if (recipe.backing) words.insert(words.end(), {"-B", content_, "-F", "raw"});
  words.insert(words.end(), {content_, seed.path});
  bool made = run_(words) == 0;
  auto then = [&](Words more) { made = made && run_(std::move(more)) == 0; };
  if (recipe.snapshots) {
    then({"snapshot", "-c", "first", seed.path});
    then({"bench", "-f", "qcow2", "-w", "-q", "-c", "3", "-s", "4096", "-S", "40960", seed.path});
    then({"snapshot", "-c", "second", seed.path});
  }
  if (recipe.bitmap) then({"bitmap", "--add", "-g", "4096", seed.path, "b0"});
  serve(made, std::move(seed));
}

void Kitchen::cook_encrypted(const char* name, const char* format, const std::string& options,
                             const char* key_option) {
  const std::string object = "secret,id=s0,data=abc";
  Seed seed{name, format, path(name), {object, key_option}};
  bool made = run_({"create", "-q", "--object", object, "-f", format, "-o", options, seed.path,
                    "300k"}) == 0;
  serve(made, std::move(seed));
}

void Kitchen::cook_data_file() {
  Seed seed{"data_file", "qcow2", path("data_file"), {}};
  const std::string options = "cluster_size=4096,data_file=" + path("data_file.raw");
  const bool made =
      run_({"convert", "-f", "raw", "-O", "qcow2", "-o", options, content_, seed.path}) == 0;
  serve(made, std::move(seed));
}

void Kitchen::cook_foreign(const char* subformat) {
  Seed seed{std::string("vmdk_") + subformat, "vmdk", path(subformat), {}};
  const std::string command =
      "qemu-img convert -f raw -O vmdk -o subformat=" + std::string(subformat) + " '" + content_ +
      "' '" + seed.path + "' 2>/dev/null";
  const bool made = std::system(command.c_str()) == 0;
  serve(made, std::move(seed));
}

}  // namespace

Words Seed::words(const std::string& file) const {
  if (secret.empty()) return {"-f", format, file};
  return {"--object", secret[0], "--image-opts",
          "driver=" + format + "," + secret[1] + "=s0,file.filename=" + file};
}

std::vector<Seed> make_seeds(const std::string& folder, const std::function<int(Words)>& run) {
  Kitchen kitchen(folder, run);
  for (const Recipe& recipe : kQcow2)
    kitchen.cook(recipe);
  kitchen.cook_data_file();
  kitchen.cook_encrypted("luks", "luks", "key-secret=s0,iter-time=10", "key-secret");
  kitchen.cook_encrypted(
      "qcow2_luks", "qcow2",
      "cluster_size=4096,encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10",
      "encrypt.key-secret");
  kitchen.cook_encrypted("qcow2_aes", "qcow2",
                         "cluster_size=4096,encrypt.format=aes,encrypt.key-secret=s0",
                         "encrypt.key-secret");
  for (const char* subformat : kVmdk)
    kitchen.cook_foreign(subformat);
  return kitchen.take();
}

}  // namespace calf::test
