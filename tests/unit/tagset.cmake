# SPDX-License-Identifier: Apache-2.0
hs_test(tagset_test SOURCES ${CMAKE_CURRENT_LIST_DIR}/tagset_test.cpp LIBS hs_tagset)
