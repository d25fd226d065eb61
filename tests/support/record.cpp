// SPDX-License-Identifier: Apache-2.0
#include "support/record.h"

#include <openssl/evp.h>

#include <array>
#include <memory>

namespace handshake::test_tls {
namespace {

constexpr std::size_t kTagBytes = 16;
constexpr std::size_t kHeaderBytes = 5;

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
};

const EVP_CIPHER* algorithm(tls::Cipher cipher) {
  switch (cipher) {
    case tls::Cipher::kAes128Gcm: return EVP_aes_128_gcm();
    case tls::Cipher::kAes256Gcm: return EVP_aes_256_gcm();
    case tls::Cipher::kChaCha20Poly1305: return EVP_chacha20_poly1305();
    case tls::Cipher::kAes128Ccm: return EVP_aes_128_ccm();
  }
  return nullptr;
}

const unsigned char* bytes(const std::string& text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* bytes(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }

std::vector<std::uint8_t> nonce(const DirectionKeys& keys, std::uint64_t sequence) {
  std::vector<std::uint8_t> nonce = keys.iv;
  for (std::size_t i = 0; i < 8; ++i) {
    nonce[nonce.size() - 1 - i] ^= static_cast<std::uint8_t>(sequence >> (8 * i));
  }
  return nonce;
}

/// `text` is replaced; `tag` is used or made.
bool crypt(const DirectionKeys& keys, std::uint64_t sequence, const std::string& header,
           std::string& text, std::array<unsigned char, kTagBytes>& tag, bool encrypt) {
  const std::unique_ptr<EVP_CIPHER_CTX, FreeContext> context(EVP_CIPHER_CTX_new());
  EVP_CIPHER_CTX* c = context.get();
  const int direction = encrypt ? 1 : 0;
  const int size = static_cast<int>(text.size());
  int length = 0;
  bool ok = EVP_CipherInit_ex(c, algorithm(keys.cipher), nullptr, nullptr, nullptr, direction) == 1 &&
            EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_IVLEN, 12, nullptr) == 1;
  if (!encrypt || keys.cipher == tls::Cipher::kAes128Ccm) {
    ok = ok && EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, kTagBytes,
                                   encrypt ? nullptr : tag.data()) == 1;
  }
  ok = ok && EVP_CipherInit_ex(c, nullptr, nullptr, keys.key.data(), nonce(keys, sequence).data(),
                               direction) == 1;
  if (keys.cipher == tls::Cipher::kAes128Ccm) {
    ok = ok && EVP_CipherUpdate(c, nullptr, &length, nullptr, size) == 1;
  }
  ok = ok && EVP_CipherUpdate(c, nullptr, &length, bytes(header), static_cast<int>(header.size())) == 1;
  std::string output(text.size() + kTagBytes, '\0');
  ok = ok && EVP_CipherUpdate(c, bytes(output), &length, bytes(text), size) == 1 && length == size;
  // CCM has verified, or finished, with its only update.
  if (keys.cipher != tls::Cipher::kAes128Ccm) {
    ok = ok && EVP_CipherFinal_ex(c, bytes(output) + length, &length) == 1;
  }
  if (encrypt) ok = ok && EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag.data()) == 1;
  output.resize(text.size());
  text = output;
  return ok;
}

}  // namespace

std::optional<std::vector<Record>> open_records(const DirectionKeys& keys,
                                                const std::string& stream,
                                                std::uint64_t sequence) {
  std::vector<Record> records;
  for (std::size_t at = 0; at < stream.size(); ++sequence) {
    if (stream.size() - at < kHeaderBytes) return std::nullopt;
    const std::string header = stream.substr(at, kHeaderBytes);
    const std::size_t size = static_cast<std::size_t>(bytes(header)[3]) << 8U | bytes(header)[4];
    at += kHeaderBytes;
    if (stream.size() - at < size || size <= kTagBytes || header[0] != 23) return std::nullopt;
    std::string text = stream.substr(at, size - kTagBytes);
    std::array<unsigned char, kTagBytes> tag{};
    stream.copy(reinterpret_cast<char*>(tag.data()), kTagBytes, at + size - kTagBytes);
    at += size;
    if (!crypt(keys, sequence, header, text, tag, false)) return std::nullopt;
    while (!text.empty() && text.back() == '\0') text.pop_back();  // padding
    if (text.empty()) return std::nullopt;
    const auto type = static_cast<std::uint8_t>(text.back());
    text.pop_back();
    records.push_back({type, text});
  }
  return records;
}

std::string seal_record(const DirectionKeys& keys, const Record& record, std::uint64_t sequence) {
  std::string text = record.content + static_cast<char>(record.type);
  const std::size_t size = text.size() + kTagBytes;
  const std::string header{'\x17', '\x03', '\x03', static_cast<char>(size >> 8U),
                           static_cast<char>(size & 0xffU)};
  std::array<unsigned char, kTagBytes> tag{};
  crypt(keys, sequence, header, text, tag, true);
  return header + text + std::string(reinterpret_cast<char*>(tag.data()), tag.size());
}

}  // namespace handshake::test_tls
