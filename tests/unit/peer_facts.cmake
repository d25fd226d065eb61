# SPDX-License-Identifier: Apache-2.0
hs_test(peer_facts_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/peer_facts_test.cpp ${CMAKE_CURRENT_LIST_DIR}/asn1_text_test.cpp
  LIBS hs_test_pki hs_tls hs_policy OpenSSL::Crypto)
