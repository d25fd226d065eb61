# SPDX-License-Identifier: Apache-2.0
# Certificates for tests, made when they run.
add_library(hs_test_pki STATIC ${CMAKE_SOURCE_DIR}/tests/support/pki.cpp)
target_include_directories(hs_test_pki PUBLIC ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(hs_test_pki PRIVATE OpenSSL::Crypto)
hs_compile_options(hs_test_pki)

# Plain OpenSSL as the other end, and a record layer.
add_library(hs_test_tls STATIC ${CMAKE_SOURCE_DIR}/tests/support/tls_peer.cpp
  ${CMAKE_SOURCE_DIR}/tests/support/record.cpp)
target_link_libraries(hs_test_tls PUBLIC hs_test_pki hs_tls OpenSSL::SSL)
hs_compile_options(hs_test_tls)
target_compile_options(hs_test_tls PRIVATE -Wno-old-style-cast)  # OpenSSL's macros

hs_test(tls_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/tls_handshake_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/tls_refusal_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/tls_stream_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/tls_credential_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/tls_names_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/tls_psk_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/tls_wire_test.cpp
  LIBS hs_test_tls hs_test_pki hs_tls)

# Replaces the allocators, so it is alone.
hs_test(tls_memory_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/tls_memory_test.cpp
  LIBS hs_test_tls hs_test_pki hs_tls)
