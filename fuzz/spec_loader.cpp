// SPDX-License-Identifier: Apache-2.0
// A netlink spec of any content: it is refused with its place, or code can be generated from it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "ynlgen/emit.h"
#include "ynlgen/spec.h"

namespace {

using namespace handshake::ynlgen;

void require(bool condition) {
  if (!condition) std::abort();
}

void fuzz(std::string_view text) {
  handshake::Result<Spec> spec = load_spec(text, "spec");
  if (!spec) {
    require(spec.error().detail.starts_with("spec:"));
    return;
  }
  // Once by itself and once as an extension of itself.
  std::vector<Input> inputs;
  inputs.push_back(Input{"first", "", *spec});
  inputs.push_back(Input{"second", "first", *spec});
  const handshake::Result<Model> model = assemble(std::move(inputs));
  if (!model) {
    require(model.error().detail.starts_with("spec:"));
    return;
  }
  require(!emit_cpp(*model, {}).messages_h.empty());
  require(!emit_markdown(*model).empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
