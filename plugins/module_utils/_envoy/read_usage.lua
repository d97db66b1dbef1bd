-- What an answer says of itself: its usage and its model, as dynamic metadata for the log and the counters. Nothing is
-- held back but the incomplete last line of a stream, and of that only where an event may have to be left out: no client
-- can use half an event. The compiler puts locate.lua, one_model.lua and tell_limits.lua before this file.
local match, concat = string.match, table.concat
local COLON = 58
local LONGEST_MODEL, LONGEST_USAGE, LONGEST_HELD = 256, 8192, 16384
-- More is no number of tokens.
local MOST_TOKENS = 1e9

local TOKENS = {
  prompt_tokens = "input",
  input_tokens = "input",
  completion_tokens = "output",
  output_tokens = "output",
}
local DETAILS = {
  prompt_tokens_details = { cached_tokens = "cached" },
  input_tokens_details = { cached_tokens = "cached" },
  completion_tokens_details = { reasoning_tokens = "reasoning" },
  output_tokens_details = { reasoning_tokens = "reasoning" },
}

-- The numbers in a usage object, or nil without any.
local function read_tokens(text)
  local found, any = {}, false
  local function number(name, value)
    local tokens = tonumber(match(text, "^(%d+)%.?0*[ \t\r\n,}]", value))
    if tokens and tokens <= MOST_TOKENS then found[name], any = tokens, true end
  end
  walk(text, 2, function(from, to, value)
    local key = sub(text, from, to)
    local names = DETAILS[key]
    if TOKENS[key] then
      number(TOKENS[key], value)
    elseif names and byte(text, value) == OPEN_BRACE then
      return (walk(text, value + 1, function(inner_from, inner_to, inner_value)
        local name = names[sub(text, inner_from, inner_to)]
        if name then number(name, inner_value) end
      end))
    end
  end)
  if not any then return nil end
  -- Embeddings have no output. What is added up is always both.
  found.input, found.output = found.input or 0, found.output or 0
  return found
end

-- ---- one JSON text that comes in pieces. Looked at are its top-level keys, and those within "response".

local INTERESTING = { model = true, usage = true, choices = true, response = true }

local function scanner()
  return { depth = 0 }
end

-- A string that is worth looking at has come to its end.
local function take_string(s, content)
  if s.model_next then
    s.model_next = false
    if #content > 0 and #content <= LONGEST_MODEL and not find(content, "[\\%c\128-\255]") then s.model = content end
  else
    s.word = content
  end
end

-- What follows a string that may be a key, or a key.
local function take_next(s, char)
  if s.word then
    s.key = char == COLON and INTERESTING[s.word] and s.word or nil
    s.word = nil
    return char == COLON
  end
  local key = s.key
  s.key = nil
  if key == "model" then
    s.model_next = char == QUOTE
  elseif key == "usage" then
    if char == OPEN_BRACE then s.usage_depth, s.usage_parts, s.usage_length = s.depth, {}, 0 end
  elseif key == "response" then
    if char == OPEN_BRACE and s.depth == 1 then s.within_response = true end
  elseif key == "choices" then
    s.key = char == OPEN_BRACKET and "first choice" or nil
    if s.key then s.depth = s.depth + 1 end
    return s.key ~= nil
  elseif key == "first choice" then
    s.no_choices = char == 93
  end
  return false
end

-- Takes a piece of the text from `position` on. What is next is found by plain searches, one for each character, whose
-- results are kept until they are passed: much faster than a pattern where there is little to find.
local function scan(s, text, position)
  local length, depth = #text, s.depth
  local never = length + 1
  local quote, brace, brace_end, bracket, bracket_end = 0, 0, 0, 0, 0
  local usage_from = s.usage_depth and position
  while position <= length do
    if s.word or s.key then
      local at = find(text, "[^ \t\r\n]", position)
      if not at then break end
      s.depth = depth
      if take_next(s, byte(text, at)) then at = at + 1 end
      depth = s.depth
      if s.usage_depth and not usage_from then usage_from = at end
      position = at
    elseif s.quoted then
      if s.escaped then position, s.escaped = position + 1, false end
      local close = string_end(text, position)
      if s.part then
        local stop = close and close - 1 or length
        -- One character too many is enough to know that it is too long.
        s.part = s.part .. sub(text, position, math.min(stop, position + LONGEST_MODEL - #s.part))
      end
      if not close then
        local before = length
        while before >= position and byte(text, before) == BACKSLASH do before = before - 1 end
        s.escaped = (length - before) % 2 == 1
        break
      end
      s.quoted = false
      if s.part then take_string(s, s.part) end
      position = close + 1
    else
      if quote < position then quote = find(text, '"', position, true) or never end
      if brace < position then brace = find(text, "{", position, true) or never end
      if brace_end < position then brace_end = find(text, "}", position, true) or never end
      if bracket < position then bracket = find(text, "[", position, true) or never end
      if bracket_end < position then bracket_end = find(text, "]", position, true) or never end
      local up = brace < bracket and brace or bracket
      local down = brace_end < bracket_end and brace_end or bracket_end
      if quote < up and quote < down then
        local close = string_end(text, quote + 1)
        local looked_at = depth == 1 or (depth == 2 and s.within_response)
        if not close then
          s.quoted, s.part = true, looked_at and "" or nil
          position = quote + 1
        else
          if looked_at and (s.model_next or INTERESTING[sub(text, quote + 1, close - 1)]) then
            take_string(s, sub(text, quote + 1, close - 1))
          end
          position = close + 1
        end
      elseif up < down then
        depth = depth + 1
        position = up + 1
      elseif down < never then
        depth = depth - 1
        position = down + 1
        if depth < 2 then s.within_response = false end
        if depth == s.usage_depth then
          local parts = s.usage_parts
          parts[#parts + 1] = sub(text, usage_from, down)
          s.usage = s.usage_length + (down - usage_from) < LONGEST_USAGE and read_tokens(concat(parts)) or s.usage
          s.usage_depth, s.usage_parts, usage_from = nil, nil, nil
        end
      else
        break
      end
    end
  end
  s.depth = depth
  if usage_from then
    s.usage_length = s.usage_length + length - usage_from + 1
    if s.usage_length < LONGEST_USAGE then s.usage_parts[#s.usage_parts + 1] = sub(text, usage_from) end
  end
end

-- ---- a whole JSON text as nearly all are: one usage, with numbers only, and one model before it

-- A key with its value, as far as numbers and objects go: what is after the value, and whether there is more. Of these
-- classes of characters Lua has a table, so that they are much faster than sets.
local FIELD = '^%s*"([%w_]*)"%s*:%s*({?)(%w*)([}%s]*)(,?)'
local NONE = {}

-- Whether there is any of these; searches for one character each are faster than one for a set.
local function begins_or_ends(text, position)
  return find(text, "{", position, true) or find(text, "[", position, true) or find(text, "]", position, true)
end

-- The numbers in the usage object after the brace at `open`, of a top-level key; or nil and whether it is not that
-- simple: something else than numbers is in it, or the text does not end where the top-level object does.
local function simple_tokens(text, open)
  local found, any, names, depth, position = {}, false, TOKENS, 2, open + 1
  while depth > 1 do
    local _, last, key, brace, word, after, comma = find(text, FIELD, position)
    if not last then return nil, true end
    position = last + 1
    if brace ~= "" then
      if depth > 2 or word ~= "" then return nil, true end
      names, depth = DETAILS[key] or NONE, 3
    elseif word == "" then
      return nil, true
    else
      local name = names[key]
      if name then
        local tokens = tonumber(match(word, "^%d+$"))
        if tokens and tokens <= MOST_TOKENS then found[name], any = tokens, true end
      end
    end
    if after ~= "" then
      local _, ends = string.gsub(after, "}", "")
      depth = depth - ends
      if depth == 2 and ends > 0 then names = TOKENS end
    end
    if depth > 0 and (comma == "") ~= (brace ~= "" and depth == 3) then return nil, true end
  end
  if position - open > LONGEST_USAGE then return nil, true end
  if depth == 1 then
    -- What follows ends as many values as are open. When it has one end and begins none, that is the object's.
    local last = find(text, "}", position, true)
    if not last or begins_or_ends(text, position) then return nil, true end
    position = last + 1
  end
  if depth < 0 or find(text, "[^ \t\r\n]", position) then return nil, true end
  if not any then return nil end
  found.input, found.output = found.input or 0, found.output or 0
  return found
end

-- The model whose key is at `at`; or nil, and whether it is not that simple. Before anything nested a key is a top-level
-- one; after it, when the usage is, of which the value is at `open`, and follows on the same level.
local function simple_model(text, at, open)
  local _, start = find(text, '^"model"%s*:%s*"', at)
  local stop = start and find(text, '"', start + 1, true)
  if not stop or stop == start + 1 or stop - start > LONGEST_MODEL or byte(text, at - 1) == BACKSLASH then
    return nil, true
  end
  local model = sub(text, start + 1, stop - 1)
  -- The first is quicker.
  if not find(model, "^[%w.-]*$") and find(model, "[\\%c\128-\255]") then return nil, true end
  if at < find(text, "{", 2, true) and at < (find(text, "[", 2, true) or at + 1) then return model end
  if find(text, '"model"', at + 7, true) then return nil, true end
  local follows = false
  walk(text, at, function(_, _, value)
    follows = value == open
    return not follows and nil
  end)
  return model, not follows
end

-- What scan() would find in the text, if it is that simple; else nil. Neither key can be anything else where it is
-- found: a quote without a backslash before it begins a string or ends one, and no name follows an end.
local function read_simple(text)
  local at, after = find(text, '"usage"', 2, true)
  if not at or byte(text, 1) ~= OPEN_BRACE or find(text, '"usage"', after, true) then return nil end
  local _, open = find(text, "^[ \t\r\n]*:[ \t\r\n]*{", after + 1)
  if not open or byte(text, at - 1) == BACKSLASH then return nil end
  local found, otherwise = {}, false
  local at_model = find(text, '"model"', 2, true)
  if at_model then found.model, otherwise = simple_model(text, at_model, open) end
  if otherwise then return nil end
  found.usage, otherwise = simple_tokens(text, open)
  return not otherwise and found or nil
end

-- ---- answers

-- Notes what was found, at once, since nobody knows whether there is more to come.
local function learn(handle, answer, s)
  local usage = s.usage
  if not usage and (answer.model or not s.model) then return end
  answer.model = answer.model or s.model
  if usage then
    answer.input, answer.output = usage.input, usage.output
    answer.cached, answer.reasoning = usage.cached, usage.reasoning
  end
  handle:streamInfo():dynamicMetadata():set("gw", "answer", answer)
  s.usage, s.model = nil, nil
end

local function read_whole(handle, count)
  local s, answer, simple = nil, {}, nil
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    if length > 0 then
      local text = chunk:getBytes(0, length)
      local found = not s and not simple and read_simple(text)
      if found then
        simple = text
        learn(handle, answer, found)
      else
        s = s or scanner()
        if simple then
          -- What looked like all of it was not, and what it told may be within something else.
          answer, simple = {}, scan(s, simple, 1)
          handle:streamInfo():dynamicMetadata():set("gw", "answer", answer)
        end
        scan(s, text, 1)
        learn(handle, answer, s)
      end
      if count then count(answer, length) end
    end
  end
  return answer
end

-- Where the next usage that is an object may be.
local function usage_at(text, position)
  while true do
    local at = find(text, '"usage"', position, true)
    if not at then return nil end
    position = at + 7
    if find(text, "^[ \t]*:[ \t]*{", position) then return at end
  end
end

-- The end of the line of an event that is left out, and the empty line after it; `true` when there is no more of it.
local LINE_ENDS = {
  ["\n"] = 1, ["\n\n"] = true,
  ["\r"] = 1, ["\r\r"] = true,
  ["\r\n"] = 1, ["\r\n\r"] = 1, ["\r\n\r\n"] = true,
}

local function read_stream(handle, hide, count)
  -- An incomplete line is in `held`, where it may have to be left out, or has gone on and is in the scanner `open`.
  local held, open, ends, events = "", nil, nil, 0
  local answer, last, sent = {}, nil, nil

  -- What of the text is passed on; nil for all of it.
  local function pass(text)
    local out, kept, position, length = nil, 1, 1, #text
    local usage = usage_at(text, 1)
    while position <= length do
      local stop = not ends and find(text, "[\r\n]", position)
      if ends then
        ends = ends .. sub(text, position, position)
        local more = LINE_ENDS[ends]
        if more then
          position = position + 1
          kept = position
        end
        if more ~= 1 then ends = nil end
      elseif open then
        scan(open, stop and sub(text, position, stop) or text, stop and 1 or position)
        learn(handle, answer, open)
        if stop then open = nil end
        position = (stop or length) + 1
      elseif not stop then
        if hide and length - position < LONGEST_HELD then
          held = sub(text, position)
          out = out or {}
          out[#out + 1] = sub(text, kept, position - 1)
          return concat(out)
        end
        open = scanner()
        scan(open, text, position)
        learn(handle, answer, open)
        break
      else
        if usage and usage < position then usage = usage_at(text, position) end
        local told = usage and usage < stop
        if (told or (not answer.model and events < 3)) and sub(text, position, position + 4) == "data:" then
          events = events + 1
          local s = scanner()
          scan(s, sub(text, position, stop), 1)
          local drop = hide and s.usage and s.no_choices
          learn(handle, answer, s)
          if drop then
            out = out or {}
            out[#out + 1] = sub(text, kept, position - 1)
            kept, ends = stop, ""
          end
        end
        position = ends and stop or stop + 1
      end
    end
    if not out then return kept > 1 and sub(text, kept) or nil end
    out[#out + 1] = sub(text, kept)
    return concat(out)
  end

  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    last, sent = chunk, ""
    if length > 0 then
      local text = chunk:getBytes(0, length)
      local piece = text
      local final = byte(text, length)
      local whole = held == "" and not open and not ends and (final == 10 or final == 13)
      if not whole or not answer.model or usage_at(text, 1) then
        local before = held
        held = ""
        text = before .. text
        local passed = pass(text)
        sent = passed or text
        if passed or before ~= "" then chunk:setBytes(sent) end
      else
        sent = text
      end
      if count then count(answer, length, piece) end
    end
  end
  -- A stream that ends in the midst of a line. What came last can still be changed, unless trailers came after it.
  if held ~= "" and last then pcall(last.setBytes, last, sent .. held) end
  return answer
end

-- Reads an answer to its end and returns what it says of itself, if it is one that can be read. `count` is called with
-- that and each of the answer's pieces: its length and, in a stream, its text.
local function read_answer(handle, headers, request, count)
  local encoding = headers:get("content-encoding")
  if headers:get(":status") ~= "200" or (encoding and lower(encoding) ~= "identity") then return end
  local kind = lower(headers:get("content-type") or "")
  if find(kind, "^application/json") then return read_whole(handle, count) end
  if find(kind, "^text/event%-stream") or request.hide_usage then
    if request.hide_usage then headers:remove("content-length") end
    return read_stream(handle, request.hide_usage, count)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  tell_limits(headers, headers:getNumValues("x-ratelimit-limit"))
  local known = handle:streamInfo():dynamicMetadata():get("gw")
  if not known then return end
  if known.request then
    -- Who counts tokens has read the answer.
    if not known.tokens then read_answer(handle, headers, known.request) end
  elseif known.shown_model then
    show_model(handle, known.shown_model)
  end
end
