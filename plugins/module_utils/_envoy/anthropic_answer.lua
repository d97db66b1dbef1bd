-- From a message of Anthropic, its stream of events or its error to OpenAI's. Texts are copied as they stand in the JSON.
-- The compiler puts json.lua and anthropic_request.lua before this file.
-- https://docs.claude.com/en/api/messages, https://docs.claude.com/en/docs/build-with-claude/streaming,
-- https://docs.claude.com/en/api/errors
local format = string.format
local LONGEST_LINE = 1048576
local TEXT_DELTA = '^{"type":"content_block_delta","index":%d+,"delta":{"type":"text_delta","text":"'

local FINISH = {
  ['"max_tokens"'] = '"length"',
  ['"model_context_window_exceeded"'] = '"length"',
  ['"refusal"'] = '"content_filter"',
}

local function string_or(value, other)
  return is_string(value) and value or other
end

-- What an answer says at its beginning.
local function head_of(message, object)
  -- Within its quotes.
  local id = sub(string_or(message.id, '"-"'), 2)
  return format(
    '{"id":"chatcmpl-%s,"object":"%s","created":%d,"model":%s,',
    id, object, os.time(), string_or(message.model, '""')
  )
end

local function finish_reason(value)
  return FINISH[value] or '"stop"'
end

-- Keeps what is told of the usage; a later event tells the numbers so far.
local function count(usage, value)
  for key, number in pairs(fields_of(value) or {}) do
    if is_number(number) then usage[key] = tonumber(number) end
  end
end

-- The provider counts the tokens that it wrote to or read from its cache beside the others.
local function usage_of(usage)
  local cached = usage.cache_read_input_tokens or 0
  local input = (usage.input_tokens or 0) + (usage.cache_creation_input_tokens or 0) + cached
  local output = usage.output_tokens or 0
  return format(
    '{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}',
    input, output, input + output, cached
  )
end

-- ---- errors

local function error_object(message, kind, code)
  return '{"error":{"message":' .. message .. ',"type":"' .. kind .. '","param":null,"code":' .. code .. "}}"
end

local function own_error(message)
  return error_object('"' .. message .. '"', "server_error", '"bad_answer"')
end

local BAD_ANSWER = own_error("The model's provider did not answer as it should.")
local CUT_ANSWER = own_error("The model's provider did not finish its answer.")

-- OpenAI's error for the provider's, for the status that it has or would have.
local function translate_error(value, status)
  local found = fields_of(fields_of(value) and value.fields.error)
  if not found or not is_string(found.message) then return nil end
  local code, kind = string_or(found.type, "null"), "invalid_request_error"
  if status == "429" then
    code, kind = '"rate_limit_exceeded"', "rate_limit_error"
  elseif status >= "500" then
    kind = "server_error"
  end
  return error_object(found.message, kind, code)
end

-- ---- a whole answer

-- The content of a message in one string literal. Thoughts are not shown, as OpenAI does not either.
local function texts_of(content)
  local found = {}
  if not is_array(content) then refuse("no content") end
  for index = 1, content.count do
    local block = fields_of(content[index]) or {}
    if block.type == '"text"' and is_string(block.text) then
      found[#found + 1] = sub(block.text, 2, -2)
    elseif block.type ~= '"thinking"' and block.type ~= '"redacted_thinking"' then
      refuse("another content")
    end
  end
  return '"' .. concat(found) .. '"'
end

local function translate_message(text)
  local message = fields_of(read_json(text))
  if not message or message.type ~= '"message"' then refuse("no message") end
  local usage = {}
  count(usage, message.usage)
  return concat({
    head_of(message, "chat.completion"),
    '"choices":[{"index":0,"message":{"role":"assistant","content":',
    texts_of(message.content),
    ',"refusal":null},"logprobs":null,"finish_reason":',
    finish_reason(message.stop_reason),
    '}],"usage":',
    usage_of(usage),
    "}",
  })
end

-- ---- a stream

-- Returns a function that takes the stream piece by piece and returns what of the client's is complete with that; nil
-- for a piece is the end of the stream. `with_usage` tells whether the client's stream ends with the usage.
local function translator(with_usage)
  local parts, length, after_return, data = {}, 0, false, nil
  local finished, head, usage, out = false, nil, {}, {}
  local no_usage = with_usage and ',"usage":null' or ""

  local function send(text)
    out[#out + 1] = "data: " .. text .. "\n\n"
  end
  local function fail(text)
    finished = true
    send(text)
  end
  local function chunk(delta, reason)
    if not head then refuse("no beginning") end
    send(concat({
      head, '"choices":[{"index":0,"delta":', delta, ',"logprobs":null,"finish_reason":', reason, "}]", no_usage, "}",
    }))
  end
  local function add(literal)
    if literal ~= '""' then chunk('{"content":' .. literal .. "}", "null") end
  end

  local EVENTS = {}
  EVENTS['"message_start"'] = function(event)
    local message = fields_of(event.message)
    if not message then refuse("no message") end
    count(usage, message.usage)
    head = head_of(message, "chat.completion.chunk")
    chunk('{"role":"assistant","content":"","refusal":null}', "null")
  end
  EVENTS['"content_block_start"'] = function(event)
    add(texts_of({ event.content_block, count = 1 }))
  end
  EVENTS['"content_block_delta"'] = function(event)
    local delta = fields_of(event.delta) or {}
    if delta.type == '"text_delta"' and is_string(delta.text) then
      add(delta.text)
    elseif delta.type == '"input_json_delta"' then
      refuse("another content")
    end
  end
  EVENTS['"message_delta"'] = function(event)
    count(usage, event.usage)
    local reason = (fields_of(event.delta) or {}).stop_reason
    if is_string(reason) then chunk("{}", finish_reason(reason)) end
  end
  EVENTS['"message_stop"'] = function()
    if not head then refuse("no beginning") end
    if with_usage then send(head .. '"choices":[],"usage":' .. usage_of(usage) .. "}") end
    send("[DONE]")
    finished = true
  end
  EVENTS['"error"'] = function(event)
    fail(translate_error({ fields = event }, "500") or BAD_ANSWER)
  end

  local function take_event(text)
    -- Nearly all events are this one, and are understood much faster so.
    local _, before = find(text, TEXT_DELTA)
    if before then
      local literal, after = read_literal(text, before)
      if find(text, "^ *} *}$", after) then
        add(literal)
        return true
      end
    end
    local event = fields_of(read_json(text))
    -- There may be others in time, and a ping is nothing to anybody.
    local handler = event and EVENTS[event.type]
    if handler then handler(event) end
    return true
  end
  local function end_event()
    local text = data
    data = nil
    if text and not finished and not attempt(take_event, text) then fail(BAD_ANSWER) end
  end
  local function take_line(line)
    if line == "" then return end_event() end
    local value = match(line, "^data: ?(.*)")
    if value then data = data and data .. "\n" .. value or value end
  end

  return function(text)
    out = {}
    local position = 1
    if after_return and text and text ~= "" then
      after_return = false
      if byte(text) == 10 then position = 2 end
    end
    -- A search for one character is much faster than one for either.
    local ends = text and find(text, "\r", 1, true) and "[\r\n]" or "\n"
    while text and not finished do
      local stop = find(text, ends, position)
      parts[#parts + 1] = sub(text, position, (stop or 0) - 1)
      if not stop then
        length = length + #text - position + 1
        if length > LONGEST_LINE then fail(BAD_ANSWER) end
        break
      end
      local line = concat(parts)
      parts, length = {}, 0
      take_line(line)
      position = stop + 1
      if byte(text, stop) == 13 then
        if byte(text, position) == 10 then position = position + 1 end
        after_return = stop == #text
      end
    end
    if not text and not finished then
      take_line(concat(parts))
      end_event()
      if not finished then fail(CUT_ANSWER) end
    end
    return concat(out)
  end
end
